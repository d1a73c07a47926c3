%% The sink of tools/bench/fanin.c: Senders processes send Messages messages each to one.
-module(fanin).
-export([run/1]).

run([Senders, Messages]) ->
    Main = self(),
    Total = Senders * Messages,
    Sink = spawn_link(fun() -> sink(Main, Total) end),
    Begun = erlang:monotonic_time(),
    [spawn_link(fun() -> send(Sink, Messages) end) || _ <- lists:seq(1, Senders)],
    receive done -> ok end,
    {Total, erlang:monotonic_time() - Begun}.

sink(Main, 0) -> Main ! done;
sink(Main, Left) -> receive item -> sink(Main, Left - 1) end.

send(_, 0) -> ok;
send(Sink, Left) ->
    Sink ! item,
    send(Sink, Left - 1).

%% The pair of tools/bench/pingpong.c: one message between two processes, Messages times.
-module(pingpong).
-export([run/1]).

run([Messages]) ->
    Main = self(),
    Pong = spawn_link(fun() -> loop(Main) end),
    Ping = spawn_link(fun() -> loop(Main) end),
    Begun = erlang:monotonic_time(),
    Ping ! {Pong, Messages},
    receive done -> ok end,
    {Messages, erlang:monotonic_time() - Begun}.

loop(Main) ->
    receive
        {_, 0} -> Main ! done;
        {From, Left} -> From ! {self(), Left - 1}
    end,
    loop(Main).

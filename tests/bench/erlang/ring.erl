%% The ring of tools/bench/ring.c: Actors processes in a circle, Tokens messages, each for Hops hops.
-module(ring).
-export([run/1]).

run([Actors, Tokens, Hops]) ->
    Main = self(),
    Members = [spawn_link(fun() -> start(Main) end) || _ <- lists:seq(1, Actors)],
    Next = tl(Members) ++ [hd(Members)],
    lists:foreach(fun({M, N}) -> M ! {next, N} end, lists:zip(Members, Next)),
    Ids = list_to_tuple(Members),
    Begun = erlang:monotonic_time(),
    [element(I * Actors div Tokens + 1, Ids) ! Hops - 1 || I <- lists:seq(0, Tokens - 1)],
    [receive done -> ok end || _ <- lists:seq(1, Tokens)],
    {Tokens * Hops, erlang:monotonic_time() - Begun}.

start(Main) ->
    receive {next, Next} -> loop(Main, Next) end.

loop(Main, Next) ->
    receive
        0 -> Main ! done;
        Left -> Next ! Left - 1
    end,
    loop(Main, Next).

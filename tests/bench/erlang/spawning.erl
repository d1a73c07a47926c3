%% The parent of tools/bench/spawn.c: Actors processes, 1000 at a time, each of which sends one message and ends.
-module(spawning).
-export([run/1]).

run([Actors]) ->
    Begun = erlang:monotonic_time(),
    start(Actors),
    {Actors, erlang:monotonic_time() - Begun}.

start(0) -> ok;
start(Left) ->
    Main = self(),
    Count = min(Left, 1000),
    [spawn(fun() -> Main ! born end) || _ <- lists:seq(1, Count)],
    [receive born -> ok end || _ <- lists:seq(1, Count)],
    start(Left - Count).

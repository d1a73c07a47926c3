%% erl -noshell -run bench main WORKLOAD NUMBER...: prints how many a second.
-module(bench).
-export([main/1]).

main([Workload | Numbers]) ->
    Arguments = [list_to_integer(N) || N <- Numbers],
    {Count, Time} = apply(list_to_atom(Workload), run, [Arguments]),
    Seconds = Time / erlang:convert_time_unit(1, second, native),
    io:format("~w~n", [round(Count / Seconds)]),
    halt(0).

/*
 * A simulated world: one daemon node of several shards, one node of clients and worker processes, a
 * memory net between them, one virtual clock, one seed. A step moves one thing: a shard that is
 * awake handles a few messages, or the net delivers something, or, when all is quiet, time jumps to
 * whatever is due next. A shard sleeps and wakes as it would on a thread, so a lost wake shows.
 */
#ifndef TR_TESTS_SIM_WORLD_H
#define TR_TESTS_SIM_WORLD_H

#include "actors/company.h"
#include "inference/pool.h"
#include "runtime/process_fake.h"
#include "runtime/transport_memory.h"

#define TR_WORLD_SHARDS_max 4
#define TR_WORLD_URL "ipc:///world"
#define TR_WORLD_WORKER_URL "ipc:///world-workers"
#define TR_WORLD_PROCESSES_max 64
#define TR_WORLD_BURST_max 4
#define TR_WORLD_PACED 3 /* models of the provider "paced": "x", "y", "z" */

typedef struct tr_world tr_world;

typedef struct tr_world_node {
    tr_world *world;
    tr_node *node;
    uint32_t shards;
    bool drowsy[TR_WORLD_SHARDS_max]; /* found nothing to do, has not said that it sleeps */
    bool asleep[TR_WORLD_SHARDS_max];
} tr_world_node;

/* A worker process that the daemon asked for (processes.h); pid 0 = none. */
typedef struct tr_sim_process {
    int32_t pid;
    int32_t signal;  /* what ends it */
    tr_id worker;    /* while it runs */
    uint64_t due_us; /* of its start or its end */
    bool started, ending, gone;
} tr_sim_process;

struct tr_world {
    uint64_t random;
    uint64_t now_us;
    uint64_t steps;
    uint64_t trace; /* a hash of everything that happened, in order */
    tr_memory_net *net;
    tr_services *services;
    tr_company *company;
    tr_world_node daemon, clients;
    /* local workers */
    tr_pool_plan *plan;
    uint32_t sequences; /* of each */
    tr_fake_processes *fakes;
    tr_sim_process processes[TR_WORLD_PROCESSES_max];
    uint32_t deaths_left, hangs_left; /* that may still happen by chance */
    uint32_t deaths, resumes;         /* that happened */
    uint32_t sequences_held;
    /* the provider "paced" (paced_actor.h), and its models */
    struct {
        uint64_t told_us, before_us; /* when it was told last what is left of it, and before */
        uint64_t until_us;           /* nothing is, until then; 0 = something is */
    } paced[TR_WORLD_PACED];
    uint32_t pace_us, pace_burst;
    uint64_t starts[TR_WORLD_BURST_max]; /* the last so many, in a ring */
    uint32_t start_count;
    char paced_names[TR_WORLD_SHARDS_max][32];
    /* what goes wrong in this world, which excuses some failures */
    bool cuts;          /* connections are cut */
    bool half_opens;    /* or fall silent */
    uint32_t scarce;    /* times that the daemon's memory may still run out for a moment */
    uint32_t shortages; /* times that it did */
    uint32_t kills;     /* of actors other than calls */
    uint64_t stop_us;   /* the company is stopped then, whatever runs; 0 = at the end */
    bool stopped;
    uint32_t fail_after; /* allocations until one fails; 0 = none will */
    bool up, down;
    const char *fault; /* the first broken rule, or NULL */
    char fault_text[256];
};

/* The daemon logs on stderr; else nowhere. Set it before a world is made. */
extern bool tr_world_logs;

uint64_t tr_world_random(tr_world *world);
/* 0 to below. */
uint32_t tr_world_below(tr_world *world, uint32_t below);
void tr_world_note(tr_world *world, uint64_t what);
/* Notes a broken rule; the first one counts. */
void tr_world_fault(tr_world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* No new troubles from now on. */
void tr_world_calm(tr_world *world);

/* Builds everything and runs until the company is up. */
void tr_world_init(tr_world *world, uint64_t seed);
/* One step. False: nothing will ever happen any more (all asleep, no timer, an empty net). */
bool tr_world_step(tr_world *world);
/* Stops the company, runs until it is down, frees everything. */
void tr_world_fini(tr_world *world);

#endif

/* The programs in tools/examples run, find the user's daemon, and print what it answers. The folder
 * that holds them is the first argument. */
#include "tests/unit/client/client_test.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static const char *folder;

/* Runs one; its exit status, or -1. What it prints goes to `out`. */
static int run(const char *name, char *argument, char *out, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/example_%s", folder, name);
    int ends[2];
    CU_ASSERT_EQUAL_FATAL(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    char *argv[] = {path, argument, NULL};
    pid_t pid = -1;
    int error = posix_spawn(&pid, path, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    size_t used = 0;
    ssize_t count;
    while (error == 0 && used < size - 1 &&
           (count = read(ends[0], out + used, size - 1 - used)) > 0) {
        used += (size_t)count;
    }
    out[used] = '\0';
    close(ends[0]);
    int status = 0;
    if (error != 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        return -1;
    }
    return WEXITSTATUS(status);
}

static void works(const char *name, char *argument, const char *expected) {
    char out[8192];
    int status = run(name, argument, out, sizeof out);
    CU_ASSERT_EQUAL(status, 0);
    CU_ASSERT_PTR_NOT_NULL(strstr(out, expected));
    if (status != 0 || strstr(out, expected) == NULL) {
        fprintf(stderr, "%s (status %d): %s\n", name, status, out);
    }
}

static void each_example_works(void) {
    works("ask", NULL, "bbbbbbbbbbbbbbb\n"); /* ref 1: the fake writes b */
    works("stream", NULL, "3 tokens in 5 ms");
    works("gather", NULL, "3/3");
    works("gather", NULL, "Rust: ddddddddddddddd\n");
    works("event_loop", NULL, "ticks, the longest wait");
    works("prefork", NULL, "child 7: bbbbbbbbbbbbbbb\n");
    works("embedded", (char[]){"echo/any"}, "What is an actor?\n");
    works("embeddings", NULL, "The cat sleeps. / Stocks fell.");
}

static void without_a_daemon_they_say_the_command(void) {
    static const char *const names[] = {"ask",     "stream",     "gather", "event_loop",
                                        "prefork", "embeddings", "weather"};
    fake_server_die(fake);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char out[8192];
        CU_ASSERT_NOT_EQUAL(run(names[i], NULL, out, sizeof out), 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(out, "start one with `troupe start`"));
    }
    CU_ASSERT_TRUE(fake_server_back(fake));
}

static int start(void) {
    fake = fake_server_start(false, FAKE_WELCOME);
    return fake != NULL && setenv("XDG_RUNTIME_DIR", fake_server_directory(fake), 1) == 0 ? 0 : 1;
}

static int stop(void) {
    fake_server_stop(fake);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    folder = argv[1];
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("examples", start, stop);
    CU_ADD_TEST(suite, each_example_works);
    CU_ADD_TEST(suite, without_a_daemon_they_say_the_command);
    return finish_tests();
}

/* The directory of the user's socket: where it is, and that one which others could touch is
 * refused. */
#include "tests/unit/client/client_test.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/client/socket_path.h"

static char home[64], path[TR_SOCKET_PATH_max + 1], why[512];

static int set_up(void) {
    snprintf(home, sizeof home, "/tmp/troupe-path-XXXXXX");
    return mkdtemp(home) != NULL && setenv("XDG_RUNTIME_DIR", home, 1) == 0 ? 0 : 1;
}

static int tear_down(void) {
    unsetenv("XDG_RUNTIME_DIR");
    return rmdir(home);
}

static tr_err directory(bool create) {
    return tr_socket_directory(create, path, sizeof path, why, sizeof why);
}

static void it_is_made_for_the_daemon_alone(void) {
    CU_ASSERT_EQUAL(directory(false), TR_ERR_NOT_FOUND);
    SAYS(path, home);
    MUST(directory(true));
    struct stat seen;
    CU_ASSERT_EQUAL(stat(path, &seen), 0);
    CU_ASSERT_EQUAL(seen.st_mode & 07777, 0700);
    MUST(directory(true)); /* again */
    MUST(directory(false));
    char url[200];
    MUST(tr_socket_url(false, url, sizeof url, why, sizeof why));
    SAYS(url, "ipc:///tmp/troupe-path-");
    SAYS(url, "/troupe/troupe.sock");
    rmdir(path);
}

static void what_others_can_touch_is_refused(void) {
    MUST(directory(true));
    CU_ASSERT_EQUAL(chmod(path, 0755), 0);
    CU_ASSERT_EQUAL(directory(true), TR_ERR_IO);
    SAYS(why, "0755");
    SAYS(why, path);
    CU_ASSERT_EQUAL(chmod(path, 0700), 0);
    rmdir(path);
    CU_ASSERT_EQUAL(symlink("/tmp", path), 0);
    CU_ASSERT_EQUAL(directory(true), TR_ERR_IO);
    SAYS(why, "not a directory");
    unlink(path);
    if (geteuid() == 0) {
        MUST(directory(true));
        CU_ASSERT_EQUAL(chown(path, 12345, 0), 0);
        CU_ASSERT_EQUAL(directory(true), TR_ERR_IO);
        SAYS(why, "12345");
        tr_client *none = NULL;
        CU_ASSERT_EQUAL(tr_client_open(NULL, &none), TR_ERR_IO);
        SAYS(tr_client_error(), "12345");
        rmdir(path);
    }
}

static void a_path_that_no_socket_holds_is_refused(void) {
    char deep[256];
    memset(deep, 'd', sizeof deep);
    deep[0] = '/';
    deep[100] = '\0';
    setenv("XDG_RUNTIME_DIR", deep, 1);
    CU_ASSERT_EQUAL(directory(true), TR_ERR_TOO_LARGE);
    SAYS(why, "XDG_RUNTIME_DIR");
    setenv("XDG_RUNTIME_DIR", home, 1);
}

static void without_xdg_it_is_the_systems_or_the_users(void) {
    unsetenv("XDG_RUNTIME_DIR");
    (void)!directory(false); /* whether it exists is this machine's business */
    char expected[64];
    snprintf(expected, sizeof expected, geteuid() == 0 ? "/run/troupe" : "/tmp/troupe-%u",
             (unsigned)geteuid());
    CU_ASSERT_STRING_EQUAL(path, expected);
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    (void)!directory(false);
    CU_ASSERT_STRING_EQUAL(path, expected);
    setenv("XDG_RUNTIME_DIR", home, 1);
}

int main(void) {
    CU_initialize_registry();
    CU_pSuite suite = CU_add_suite("socket_path", set_up, tear_down);
    CU_ADD_TEST(suite, it_is_made_for_the_daemon_alone);
    CU_ADD_TEST(suite, what_others_can_touch_is_refused);
    CU_ADD_TEST(suite, a_path_that_no_socket_holds_is_refused);
    CU_ADD_TEST(suite, without_xdg_it_is_the_systems_or_the_users);
    return finish_tests();
}

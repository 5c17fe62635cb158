/* SPDX-License-Identifier: Apache-2.0 */
/* The disks: what each promises, with the same checks where the promise is the same. */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "journal/fixture.h"

static char synced[4096]; /* the directory that was, last */

int fsync(int fd)
{
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, synced, sizeof synced - 1);
    synced[n > 0 ? n : 0] = 0;
    return (int)syscall(SYS_fsync, fd);
}

static int on_name(void *arg, const char *name)
{
    unsigned *seen = arg;
    *seen += strcmp(name, "a") == 0 || strcmp(name, "b") == 0;
    return 0;
}

/* Both names lead to the same bytes; each goes alone. */
static void links_of(struct disk *d, const char *dir)
{
    char from[128], to[128], byte;
    struct disk_file *f;
    snprintf(from, sizeof from, "%s/from", dir);
    snprintf(to, sizeof to, "%s/to", dir);
    assert_int_equal(d->link(d, from, to), -ENOENT);
    assert_int_equal(d->open(d, from, O_RDWR | O_CREAT, &f), 0);
    struct iovec v = {.iov_base = "x", .iov_len = 1};
    assert_int_equal(disk_write_full(d, f, &v, 1, 0), 0);
    assert_int_equal(d->fdatasync(d, f), 0);
    assert_int_equal(d->close(d, f), 0);
    assert_int_equal(d->link(d, from, to), 0);
    assert_int_equal(d->link(d, from, to), -EEXIST);
    assert_int_equal(d->unlink(d, from), 0);
    assert_int_equal(d->open(d, to, O_RDONLY, &f), 0);
    assert_int_equal(disk_read_full(d, f, &byte, 1, 0), 0);
    assert_int_equal(byte, 'x');
    assert_int_equal(d->close(d, f), 0);
    assert_int_equal(d->unlink(d, to), 0);
}

/* What is no file is not opened, and nobody waits for its other end. */
static void no_files_of(struct disk *d, const char *dir)
{
    static const int flags[] = {O_RDONLY, O_RDWR, O_RDWR | O_CREAT, O_RDWR | O_CREAT | O_TRUNC};
    char fifo[100], sock[100];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct disk_file *f;
    snprintf(fifo, sizeof fifo, "%s/fifo", dir);
    snprintf(sock, sizeof sock, "%s/sock", dir);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", sock);
    assert_int_equal(bind(s, (const struct sockaddr *)&name, sizeof name), 0);
    alarm(20);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        assert_int_equal(d->open(d, fifo, flags[i], &f), -EMEDIUMTYPE);
        assert_int_equal(d->open(d, sock, flags[i], &f), -EMEDIUMTYPE);
        assert_int_equal(d->open(d, "/dev/null", flags[i], &f), -EMEDIUMTYPE);
    }
    assert_int_equal(disk_check_kind(fifo), -EMEDIUMTYPE);
    assert_int_equal(disk_check_kind(sock), -EMEDIUMTYPE);
    assert_int_equal(disk_check_kind("/dev/null"), -EMEDIUMTYPE);
    assert_int_equal(disk_check_kind(dir), 0);
    assert_int_equal(disk_check_kind("/dev/null/not/there"), 0);
    assert_non_null(strstr(disk_strerror(-EMEDIUMTYPE), "no file"));
    assert_string_equal(disk_strerror(-ENOENT), strerror(ENOENT));
    alarm(0);
    close(s);
    assert_int_equal(d->unlink(d, fifo), 0);
    assert_int_equal(d->unlink(d, sock), 0);
}

static void basics_of(struct disk *d, const char *dir)
{
    char a[128], b[128], text[64] = {0};
    struct disk_file *f, *g;
    uint64_t size, total, left;
    unsigned seen = 0;
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(b, sizeof b, "%s/b", dir);
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_int_equal(d->open(d, a, O_RDONLY, &f), -ENOENT);
    assert_int_equal(disk_replace(d, a, "hello", 5), 0);
    assert_int_equal(disk_replace(d, a, "world!", 6), 0);
    assert_int_equal(d->open(d, a, O_RDWR, &f), 0);
    assert_int_equal(disk_read_full(d, f, text, 6, 0), 0);
    assert_string_equal(text, "world!");
    assert_int_equal(disk_read_full(d, f, text, 7, 0), -EIO);
    struct iovec v[3] = {{"12", 2}, {"", 0}, {"345", 3}};
    assert_int_equal(disk_write_full(d, f, v, 3, 1000), 0);
    assert_int_equal(d->size(d, f, &size), 0);
    assert_int_equal(size, 1005);
    assert_int_equal(disk_read_full(d, f, text, 7, 998), 0);
    assert_memory_equal(text, "\0\00012345", 7);
    assert_int_equal(d->fdatasync(d, f), 0);
    assert_int_equal(d->lock(d, f), 0);
    assert_int_equal(d->open(d, a, O_RDWR, &g), 0);
    assert_int_equal(d->lock(d, g), -EWOULDBLOCK);
    assert_int_equal(d->close(d, g), 0);
    assert_int_equal(d->truncate(d, f, 3), 0);
    assert_int_equal(d->size(d, f, &size), 0);
    assert_int_equal(size, 3);
    assert_int_equal(d->rename(d, a, b), 0);
    assert_int_equal(d->sync_dir(d, dir), 0);
    assert_int_equal(d->list(d, dir, on_name, &seen), 0);
    assert_int_equal(seen, 1);
    assert_int_equal(d->unlink(d, b), 0);
    assert_int_equal(d->unlink(d, b), -ENOENT);
    assert_int_equal(disk_read_full(d, f, text, 3, 0), 0); /* an open file outlives its name */
    assert_int_equal(d->close(d, f), 0);
    assert_int_equal(d->space(d, dir, &total, &left), 0);
    assert_true(left <= total && total > 0);
    links_of(d, dir);
}

static void trees_of(struct disk *d, const char *dir)
{
    char path[128];
    struct disk_file *f;
    unsigned depth = 0;
    assert_int_equal(disk_remove_tree(d, "/tmp/disk-test-none"), 0);
    for (unsigned depth_max = 0; depth_max < 3; depth_max++) {
        size_t at = (size_t)snprintf(path, sizeof path, "%s/tree", dir);
        for (depth = 0; depth <= depth_max; depth++) {
            assert_int_equal(d->mkdir(d, path), 0);
            for (char name = 'a'; name < 'm'; name++) {
                snprintf(path + at, sizeof path - at, "/%c", name);
                assert_int_equal(d->open(d, path, O_RDWR | O_CREAT, &f), 0);
                assert_int_equal(d->close(d, f), 0);
            }
            at += (size_t)snprintf(path + at, sizeof path - at, "/dir");
        }
        snprintf(path, sizeof path, "%s/tree", dir);
        assert_int_equal(d->unlink(d, path), -ENOTEMPTY);
        assert_int_equal(disk_remove_tree(d, path), 0);
        assert_int_equal(d->open(d, path, O_RDONLY, &f), -ENOENT);
    }
}

static void basics(void **state)
{
    char dir[] = "/tmp/disk-test-XXXXXX";
    assert_non_null(mkdtemp(dir));
    basics_of(disk_posix(), dir);
    basics_of(disk_lossy(1), dir);
    no_files_of(disk_posix(), dir);
    no_files_of(disk_lossy(1), dir);
    trees_of(disk_posix(), dir);
    trees_of(disk_lossy(1), dir);
    assert_int_equal(rmdir(dir), 0);
    struct disk_sim *s = disk_sim_new(1);
    basics_of(disk_sim_disk(s), "dir");
    disk_sim_faults(s)->short_io = 40000;
    disk_sim_faults(s)->eintr = 20000;
    for (int i = 0; i < 50; i++)
        basics_of(disk_sim_disk(s), "dir");
    disk_sim_free(s);
}

static void write_at(struct disk *d, struct disk_file *f, char byte, size_t len, uint64_t at)
{
    static char bytes[65536];
    memset(bytes, byte, len);
    struct iovec v = {.iov_base = bytes, .iov_len = len};
    assert_int_equal(disk_write_full(d, f, &v, 1, at), 0);
}

/* A child writes 'a' and syncs, then 'b' without, then is killed. Every sector is one or the other,
 * and over some seeds both are seen: that is what a power cut leaves. */
static void lossy_disk_forgets_what_was_not_synced(void **state)
{
    unsigned kept = 0, lost = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        char path[] = "/tmp/lossy-test-XXXXXX";
        close(mkstemp(path));
        pid_t child = fork();
        if (child == 0) {
            struct disk *d = disk_lossy(seed);
            struct disk_file *f, *other;
            char back;
            if (d->open(d, path, O_RDWR, &f) != 0 || d->open(d, path, O_RDONLY, &other) != 0)
                _exit(1);
            write_at(d, f, 'a', 65536, 0);
            if (d->fdatasync(d, f) != 0)
                _exit(2);
            for (uint64_t at = 100; at < 60000; at += 6000)
                write_at(d, f, 'b', 5000, at);
            if (disk_read_full(d, other, &back, 1, 100) != 0 || back != 'b') /* all see it */
                _exit(3);
            kill(getpid(), SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct disk *d = disk_posix();
        struct disk_file *f;
        static char bytes[65536];
        assert_int_equal(d->open(d, path, O_RDONLY, &f), 0);
        assert_int_equal(disk_read_full(d, f, bytes, sizeof bytes, 0), 0);
        d->close(d, f);
        unlink(path);
        for (size_t at = 512; at < 59904; at += 512) {
            bool in_b = (at + 256 - 100) % 6000 < 5000;
            assert_true(bytes[at + 256] == 'a' || (in_b && bytes[at + 256] == 'b'));
            kept += in_b && bytes[at + 256] == 'b';
            lost += in_b && bytes[at + 256] == 'a';
        }
    }
    assert_true(kept > 0 && lost > kept);
}

/* A power cut takes no directory with all that was made durable in it. */
static void a_new_directory_lasts(void **state)
{
    char base[] = "/tmp/sluice-names-XXXXXX", dir[64];
    struct disk *d = disk_posix();
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/new", base);
    synced[0] = 0;
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_string_equal(synced, base);
    synced[0] = 0;
    assert_int_equal(d->mkdir(d, dir), 0); /* it is there */
    assert_string_equal(synced, "");
    snprintf(dir, sizeof dir, "%s//other//", base);
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_string_equal(synced, base);
    assert_int_equal(disk_remove_tree(d, base), 0);
}

static void simulated_power_cut(void **state)
{
    unsigned kept = 0, lost = 0, named = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct disk_sim *s = disk_sim_new(seed);
        struct disk *d = disk_sim_disk(s);
        struct disk_file *f;
        const char *ptr;
        size_t len;
        assert_int_equal(d->open(d, "dir/x", O_RDWR | O_CREAT, &f), 0);
        write_at(d, f, 'a', 8192, 0);
        assert_int_equal(d->fdatasync(d, f), 0);
        assert_int_equal(d->sync_dir(d, "dir"), 0);
        write_at(d, f, 'b', 8192, 0);
        assert_int_equal(d->rename(d, "dir/x", "dir/y"), 0);
        d->close(d, f);
        disk_sim_cut(s);
        bool moved = disk_sim_peek(s, "dir/y", &ptr, &len) == 0;
        if (!moved)
            assert_int_equal(disk_sim_peek(s, "dir/x", &ptr, &len), 0);
        named += moved;
        for (size_t at = 0; at < 8192; at += 512) {
            kept += ptr[at] == 'b';
            lost += ptr[at] == 'a';
            for (size_t i = 1; i < 512; i++)
                assert_int_equal(ptr[at], ptr[at + i]);
        }
        disk_sim_free(s);
    }
    assert_true(kept > 20 && lost > 20 && named > 5 && named < 35);
}

/* After a failed sync the cache goes on showing what the platter may never get. */
static void simulated_failed_sync(void **state)
{
    unsigned lost = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct disk_sim *s = disk_sim_new(seed);
        struct disk *d = disk_sim_disk(s);
        struct disk_file *f;
        const char *ptr;
        size_t len;
        char byte;
        assert_int_equal(d->open(d, "dir/x", O_RDWR | O_CREAT, &f), 0);
        assert_int_equal(d->sync_dir(d, "dir"), 0);
        write_at(d, f, 'a', 4096, 0);
        disk_sim_faults(s)->syncs_failing = 1;
        assert_int_equal(d->fdatasync(d, f), -EIO);
        assert_int_equal(d->fdatasync(d, f), 0);
        assert_int_equal(disk_read_full(d, f, &byte, 1, 4000), 0);
        assert_int_equal(byte, 'a');
        d->close(d, f);
        disk_sim_cut(s);
        assert_int_equal(disk_sim_peek(s, "dir/x", &ptr, &len), 0);
        lost += len < 4096 || memchr(ptr, 0, len) != NULL;
        disk_sim_free(s);
    }
    assert_true(lost > 5);
}

/* One directory may be changed; everything else is only read. */
static void within_a_directory(void **state)
{
    char base[] = "/tmp/sluice-within-XXXXXX", in[64], out[64], other[64], dir[64], text[8] = "";
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/own", base);
    snprintf(in, sizeof in, "%s/own/a", base);
    snprintf(out, sizeof out, "%s/b", base);
    snprintf(other, sizeof other, "%s/ownish", base);
    struct disk *p = disk_posix(), *d = disk_within(dir);
    struct disk_file *f;
    assert_int_equal(disk_replace(p, out, "good", 4), 0);
    assert_int_equal(d->mkdir(d, other), -EROFS); /* its name only begins so */
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_int_equal(disk_replace(d, in, "mine", 4), 0);
    assert_int_equal(disk_replace(d, out, "mine", 4), -EROFS);
    assert_int_equal(d->open(d, out, O_RDWR, &f), -EROFS);
    assert_int_equal(d->open(d, other, O_RDWR | O_CREAT, &f), -EROFS);
    assert_int_equal(d->rename(d, in, out), -EROFS);
    assert_int_equal(d->rename(d, out, in), -EROFS);
    assert_int_equal(d->link(d, out, in), -EROFS);
    assert_int_equal(d->unlink(d, out), -EROFS);
    snprintf(other, sizeof other, "%s/own/../b", base);
    assert_int_equal(d->unlink(d, other), -EROFS);
    assert_int_equal(d->open(d, out, O_RDONLY, &f), 0);
    assert_int_equal(d->pread(d, f, text, sizeof text, 0), 4);
    assert_string_equal(text, "good");
    d->close(d, f);
    assert_int_equal(d->unlink(d, in), 0);
    assert_int_equal(disk_remove_tree(p, base), 0);
}

/* The same, seen to by the kernel; of a process of its own, as it is for good. */
static void confined(void **state)
{
    char base[] = "/tmp/sluice-confine-XXXXXX", in[64], out[64], dir[64];
    int status = 0;
    assert_non_null(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/own", base);
    snprintf(in, sizeof in, "%s/own/a", base);
    snprintf(out, sizeof out, "%s/b", base);
    struct disk *d = disk_posix();
    struct disk_file *f, *before;
    assert_int_equal(d->mkdir(d, dir), 0);
    assert_int_equal(disk_replace(d, out, "good", 4), 0);
    assert_int_equal(d->open(d, out, O_RDWR, &before), 0);
    pid_t child = fork();
    if (child == 0) {
        int rc = disk_confine(dir);
        if (rc)
            _exit(rc == -EOPNOTSUPP ? 77 : 1);
        struct iovec v = {"n", 1};
        _exit(disk_replace(d, in, "mine", 4) != 0                        ? 2
              : d->open(d, out, O_RDONLY, &f) != 0                       ? 3
              : d->open(d, out, O_RDWR, &f) != -EACCES                   ? 4
              : d->unlink(d, out) != -EACCES                             ? 5
              : d->rename(d, out, in) == 0 || d->rename(d, in, out) == 0 ? 6
              : d->mkdir(d, "/tmp/sluice-confine-new") != -EACCES        ? 7
              : disk_write_full(d, before, &v, 1, 4) != 0                ? 8
                                                                         : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        print_message("this kernel has no Landlock\n");
    else
        assert_int_equal(WEXITSTATUS(status), 0);
    d->close(d, before);
    assert_int_equal(disk_remove_tree(d, base), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basics),
        cmocka_unit_test(lossy_disk_forgets_what_was_not_synced),
        cmocka_unit_test(a_new_directory_lasts),
        cmocka_unit_test(simulated_power_cut),
        cmocka_unit_test(simulated_failed_sync),
        cmocka_unit_test(within_a_directory),
        cmocka_unit_test(confined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

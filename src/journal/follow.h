/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal/follow.h - a log that another process writes, opened to be read: a `struct journal` with
 * neither writer nor keeper, which never writes into the log's directory. Its readers work as they
 * do everywhere; its named readers have their cursors in a file of its own. It sees nothing beyond
 * the mark that the writer's process tells it, by whatever way (link/).
 *
 * journal_close ends it. What only a writer can do (submit, tune, link, verify's lock) is not to be
 * called on it.
 */
#pragma once

#include "journal/journal.h"

struct journal_follow_opts {
    struct disk *disk;
    const char *dir;          /* the log's */
    const char *cursors_path; /* of its named readers, in a directory that exists */
    /* Named readers that are not there yet begin where the log's own of that name are, if their
     * names begin so. */
    const char *prefix;
};

/* Opens the log as far as its files prove that it is durable. 0; -ENOENT: there is no log yet; or
 * another negative errno with a sentence. */
int journal_follow(const struct journal_follow_opts *opts, struct journal **ret, struct error *err);

/* How far a log is, for another process. `layout` grows whenever a segment comes or goes, `epoch`
 * with each opening by a writer, who found it to end at `began`. */
struct journal_mark {
    uint64_t durable, layout, epoch, began;
};

/* Of a log that is written here. Any thread. */
struct journal_mark journal_mark(struct journal *j);
/* Of one that is followed: its readers go on up to there. The log's oldest record is what its
 * directory says. 0, or a negative errno: nothing changed, and the call may be repeated, but for
 * -ESTALE: it went back. One thread at a time. */
int journal_follow_to(struct journal *j, const struct journal_mark *m);
/* Whether a log that is followed ended, at some time, before what it had said was durable: the disk
 * lied, or an older copy took its place. What was read of it is not what it holds, so nothing is to
 * be done with either any more, for good; who follows it anew begins where it ended then, at the
 * latest. One atomic load; any thread, any log. */
bool journal_went_back(const struct journal *j);

/* When it went back and the cursors beyond its end could not be put back: whether that is to be
 * tried again, and doing so. 0 or a negative errno. The thread of journal_follow_to. */
bool journal_back_due(const struct journal *j);
int journal_put_back(struct journal *j);

/* Sleeps until something above `durable` is durable, journal_wake is called, or `ns` passed. Any
 * thread. */
void journal_wait(struct journal *j, uint64_t durable, uint64_t ns);
/* Wakes all that sleep in journal_wait, and readers for nothing. Any thread. */
void journal_wake(struct journal *j);

/* Called for each named reader. Any log, any thread. */
typedef void journal_each_cursor(void *arg, const char *name, uint64_t offset);
void journal_cursors(struct journal *j, journal_each_cursor *each, void *arg);
/* The cursor of a name; `none`: there is none. */
uint64_t journal_cursor(struct journal *j, const char *name, uint64_t none);
/* The cursor of a name, committed durably by who is not the reader: moves forward only. 0 or a
 * negative errno. */
int journal_set_cursor(struct journal *j, const char *name, uint64_t offset);
/* Takes over the cursors in the file that a follower has left: those of the same name here move up
 * to them, and the file goes. 0, also when there is none, or a negative errno with a sentence. */
int journal_adopt_cursors(struct journal *j, const char *path, struct error *err);

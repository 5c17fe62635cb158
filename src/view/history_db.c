/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "view/history_own.h"

enum {
    FORMAT_TUPLES = 2, /* merged rows have tuples (KEY_ROLLUP) */
    FORMAT_SEALED = 3, /* rows may be sealed (history_seal.c) */
    FORMAT_ROWS = 4,   /* rows may be of the second format (row.c), and sealed */
    FORMAT = FORMAT_ROWS,
    META_BYTES = 20,
    /* After "no space" RocksDB goes on once WRITE_BUFFERS of them are free, looking every 5 s. */
    WRITE_BUFFER = 32 << 20,
    WRITE_BUFFERS = 2,
    FILE_BYTES = 64 << 20,
    SYNC_BYTES = 1 << 20,
    LOG_WARN_LEVEL = 2, /* of RocksDB's own LOG file */
    TIER_BLOCK_CACHE = 1,
    TIER_PERSISTED = 2,
};

int history_db_error(char *text)
{
    if (!text)
        return 0;
    int code = -EIO;
    if (strncmp(text, "Corruption", 10) == 0)
        code = -EBADMSG;
    else if (strstr(text, "incomplete") || strstr(text, "Incomplete"))
        code = -EAGAIN;
    else if (strstr(text, "No space left") || strncmp(text, "NoSpace", 7) == 0)
        code = -ENOSPC;
    rocksdb_free(text);
    return code;
}

int history_db_ended(const rocksdb_iterator_t *it)
{
    char *text = NULL;
    rocksdb_iter_get_error(it, &text);
    return history_db_error(text);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void put_be(char *to, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(to, &v, sizeof v);
}

static uint64_t get_be(const char *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return __builtin_bswap64(v);
}

/* Signed numbers sort as unsigned ones when the sign bit is turned. */
static uint64_t turn(int64_t v)
{
    return (uint64_t)v ^ 1ull << 63;
}

void history_key(char out[ROW_KEY_BYTES], char kind, uint64_t feed, struct row_key at)
{
    out[0] = kind;
    put_be(out + 1, feed);
    put_be(out + 9, turn(at.us));
    put_be(out + 17, at.offset);
}

void history_op_key(char out[OP_KEY_BYTES], uint64_t feed, int64_t ms, uint64_t offset,
                    bool deleted)
{
    history_key(out, KEY_OP, feed, (struct row_key){.us = ms, .offset = offset});
    out[ROW_KEY_BYTES] = deleted ? 1 : 0;
}

void history_count_key(char out[OP_KEY_BYTES], uint64_t feed)
{
    history_key(out, KEY_FRESH, feed, (struct row_key){.us = INT64_MAX, .offset = UINT64_MAX});
    out[ROW_KEY_BYTES] = 0;
}

/* Valid, and of that kind and feed. */
static const char *key_at(const rocksdb_iterator_t *it, char kind, uint64_t feed, size_t bytes)
{
    if (!rocksdb_iter_valid(it))
        return NULL;
    size_t len;
    const char *key = rocksdb_iter_key(it, &len);
    return len == bytes && key[0] == kind && get_be(key + 1) == feed ? key : NULL;
}

bool history_row_at(struct unsealing *u, const rocksdb_iterator_t *it, char kind, uint64_t feed,
                    struct row_key *ret_key, struct slice *ret_row)
{
    const char *key = key_at(it, kind, feed, ROW_KEY_BYTES);
    if (!key)
        return false;
    *ret_key =
        (struct row_key){.us = (int64_t)turn((int64_t)get_be(key + 9)), .offset = get_be(key + 17)};
    ret_row->ptr = rocksdb_iter_value(it, &ret_row->len);
    return unsealing_open(u, slice_of(key, ROW_KEY_BYTES), ret_row);
}

bool history_any_row_at(struct unsealing *u, rocksdb_iterator_t *it, char kind, uint64_t *ret_feed,
                        struct row_key *ret_key, struct slice *ret_row)
{
    for (; rocksdb_iter_valid(it); rocksdb_iter_next(it)) { /* over those that are erased */
        size_t len;
        const char *key = rocksdb_iter_key(it, &len);
        if (len != ROW_KEY_BYTES || key[0] != kind)
            return false;
        *ret_feed = get_be(key + 1);
        if (history_row_at(u, it, kind, *ret_feed, ret_key, ret_row))
            return true;
    }
    return false;
}

bool history_count_at(struct unsealing *u, const rocksdb_iterator_t *it, uint64_t feed,
                      struct slice *ret_value)
{
    const char *key = key_at(it, KEY_FRESH, feed, OP_KEY_BYTES);
    if (!key)
        return false;
    ret_value->ptr = rocksdb_iter_value(it, &ret_value->len);
    return unsealing_open(u, slice_of(key, OP_KEY_BYTES), ret_value);
}

bool history_op_at(struct unsealing *u, const rocksdb_iterator_t *it, uint64_t feed, struct op *ret)
{
    const char *key = key_at(it, KEY_OP, feed, OP_KEY_BYTES);
    if (!key)
        return false;
    *ret = (struct op){.event_ms = (int64_t)turn((int64_t)get_be(key + 9)),
                       .offset = get_be(key + 17),
                       .deleted = key[ROW_KEY_BYTES] != 0};
    ret->payload.ptr = rocksdb_iter_value(it, &ret->payload.len);
    return unsealing_open(u, slice_of(key, OP_KEY_BYTES), &ret->payload);
}

void history_seek(rocksdb_iterator_t *it, char kind, uint64_t feed, struct row_key at)
{
    char key[ROW_KEY_BYTES];
    history_key(key, kind, feed, at);
    rocksdb_iter_seek(it, key, sizeof key);
}

void history_seek_back(rocksdb_iterator_t *it, char kind, uint64_t feed, struct row_key at)
{
    char key[ROW_KEY_BYTES];
    history_key(key, kind, feed, at);
    rocksdb_iter_seek_for_prev(it, key, sizeof key);
}

/* ---- opening --------------------------------------------------------------------------------- */

static rocksdb_options_t *make_options(const struct history_opts *opts, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_block_size(table, 16 << 10);
    rocksdb_block_based_options_set_format_version(table, 5);
    /* Counted in the cache, so that memory stays bounded however large the database gets. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);

    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER);
    rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS);
    rocksdb_options_set_target_file_size_base(o, FILE_BYTES);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_max_background_jobs(o, 2);
    /* One writer: without concurrency the skip list remembers its place, and a flush writes its
     * rows in order. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    /* Rows are entropy-coded already: zstd at the bottom saved 4 % of the bytes for a third of all
     * background CPU. What LZ4 finds is the keys, and values that are text. */
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_level0_file_num_compaction_trigger(o, 8);
    /* Handed to the disk bit by bit: a commit of the journal waits behind what is written at once.
     */
    rocksdb_options_set_bytes_per_sync(o, SYNC_BYTES);
    rocksdb_options_set_info_log_level(o, LOG_WARN_LEVEL);
    rocksdb_options_set_max_log_file_size(o, 1 << 20);
    rocksdb_options_set_keep_log_file_num(o, 2);
    return o;
}

static bool is_data_file(const char *name)
{
    size_t len = strlen(name);
    return strncmp(name, "MANIFEST-", 9) == 0 || (len > 4 && strcmp(name + len - 4, ".sst") == 0);
}

/* RocksDB would wait for the other end of a pipe. */
static int check_entry(const char *dir, const struct dirent *e)
{
    char path[PATH_MAX];
    if (e->d_type == DT_REG || e->d_type == DT_DIR)
        return 0;
    return snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path
               ? disk_check_kind(path)
               : -ENAMETOOLONG;
}

/* RocksDB takes a directory without CURRENT for a new database and would begin an empty one beside
 * the files of the old one. */
static int check_directory(const char *path, struct error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT
                   ? 0
                   : error_set(err, -errno, "history database %s: %s", path, strerror(errno));
    bool current = false, data = false;
    int code = 0;
    for (struct dirent *e; code == 0 && (e = readdir(dir));) {
        code = check_entry(path, e);
        if (code)
            error_set(err, code, "history database %s: %s: %s", path, e->d_name,
                      disk_strerror(code));
        current |= strcmp(e->d_name, "CURRENT") == 0;
        data |= is_data_file(e->d_name);
    }
    closedir(dir);
    if (code)
        return code;
    if (data && !current)
        return error_set(err, -EBADMSG,
                         "history database %s is damaged: the file CURRENT is missing", path);
    return 0;
}

static int damaged(const struct history_opts *opts, struct error *err, const char *what)
{
    return error_set(err, -EBADMSG, "history database %s is damaged: %s", opts->path, what);
}

/* Names the operation and what RocksDB said. */
static int failed(const struct history_opts *opts, struct error *err, const char *what, char *text)
{
    struct error said;
    error_set(&said, 0, "%s", text);
    int code = history_db_error(text);
    if (code == -EBADMSG)
        return damaged(opts, err, said.text);
    return error_set(err, code, "history database %s: %s: %s", opts->path, what, said.text);
}

/* Of a new database, with `was` 0 and a cursor, or of one of the older format `was`. Durable before
 * anything is written that needs it. */
static int write_meta(const struct history_opts *opts, struct history_db *d, uint32_t was,
                      const uint64_t *cursor, struct error *err)
{
    char *text = NULL, meta[META_BYTES];
    uint32_t format = FORMAT;
    memcpy(meta, &format, 4);
    memcpy(meta + 4, opts->log_id, 16);
    rocksdb_writebatch_t *b = rocksdb_writebatch_create();
    rocksdb_writebatch_put(b, (char[]){KEY_META}, 1, meta, sizeof meta);
    if (cursor)
        rocksdb_writebatch_put(b, (char[]){KEY_CURSOR}, 1, (const char *)cursor, sizeof *cursor);
    if (was < FORMAT_TUPLES)
        history_rollup_begin(b, cursor ? UINT64_MAX : 0);
    rocksdb_write(d->db, d->write, b, &text);
    rocksdb_writebatch_destroy(b);
    if (!text)
        rocksdb_flush(d->db, d->flush, &text);
    return text ? failed(opts, err, "cannot write", text) : 0;
}

static int begin_new(const struct history_opts *opts, struct history_db *d, struct error *err)
{
    rocksdb_iterator_t *it = rocksdb_create_iterator(d->db, d->read);
    rocksdb_iter_seek_to_first(it);
    bool empty = !rocksdb_iter_valid(it);
    rocksdb_iter_destroy(it);
    return empty ? write_meta(opts, d, 0, &(uint64_t){0}, err)
                 : damaged(opts, err, "it has no head");
}

/* Whose database this is, and how far it has got. */
static int read_meta(const struct history_opts *opts, struct history_db *d, uint64_t *ret_cursor,
                     struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    char *meta = rocksdb_get(d->db, d->read_durable, (char[]){KEY_META}, 1, &len, &text);
    if (text)
        return failed(opts, err, "cannot read", text);
    if (!meta) {
        *ret_cursor = 0;
        return begin_new(opts, d, err);
    }
    uint32_t format = 0;
    int code = 0;
    if (len >= 4)
        memcpy(&format, meta, 4);
    if (format > FORMAT)
        code = error_set(err, -ENOTSUP, "history database %s has format %u; this version reads %u",
                         opts->path, format, (unsigned)FORMAT);
    else if (len != META_BYTES || format == 0)
        code = damaged(opts, err, "its head is no head");
    else if (memcmp(meta + 4, opts->log_id, 16) != 0)
        code =
            error_set(err, -ESTALE, "history database %s belongs to another journal", opts->path);
    rocksdb_free(meta);
    if (code < 0)
        return code;
    char *cursor = rocksdb_get(d->db, d->read_durable, (char[]){KEY_CURSOR}, 1, &len, &text);
    if (text)
        return failed(opts, err, "cannot read", text);
    if (!cursor || len != sizeof *ret_cursor)
        code = damaged(opts, err, "it has no cursor");
    else
        memcpy(ret_cursor, cursor, sizeof *ret_cursor);
    if (cursor)
        rocksdb_free(cursor);
    return code == 0 && format < FORMAT ? write_meta(opts, d, format, NULL, err) : code;
}

int history_db_open(const struct history_opts *opts, struct history_db *ret, uint64_t *ret_cursor,
                    struct error *err)
{
    int code = check_directory(opts->path, err);
    if (code < 0)
        return code;
    struct history_db *d = ret;
    d->cache = rocksdb_cache_create_lru(opts->cache_bytes);
    d->options = make_options(opts, d->cache);
    d->read = rocksdb_readoptions_create();
    d->read_no_io = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(d->read_no_io, TIER_BLOCK_CACHE);
    d->read_durable = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(d->read_durable, TIER_PERSISTED);
    d->read_once = rocksdb_readoptions_create(); /* merging must not push out what people read */
    rocksdb_readoptions_set_fill_cache(d->read_once, 0);
    d->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(d->write, 1);
    d->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(d->flush, 1);
    char *text = NULL;
    d->db = rocksdb_open(d->options, opts->path, &text);
    if (text) {
        d->db = NULL;
        return failed(opts, err, "cannot open", text);
    }
    return read_meta(opts, d, ret_cursor, err);
}

bool history_beyond(const char *path, const uint8_t log_id[16], uint64_t end, uint64_t *ret)
{
    enum { FILES_OPEN = 16 };
    char *text = NULL, *meta, *cursor;
    size_t meta_len = 0, len = 0;
    uint64_t at = 0;
    if (check_directory(path, NULL) < 0)
        return false;
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_max_open_files(o, FILES_OPEN);
    rocksdb_options_set_max_file_opening_threads(o, 1);
    rocksdb_options_set_info_log_level(o, LOG_WARN_LEVEL);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_t *db = rocksdb_open_for_read_only(o, path, 0, &text);
    rocksdb_options_destroy(o);
    if (text) { /* there is none, or opening it will say why not */
        rocksdb_free(text);
        return false;
    }
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();
    meta = rocksdb_get(db, read, (char[]){KEY_META}, 1, &meta_len, &text);
    cursor = text ? NULL : rocksdb_get(db, read, (char[]){KEY_CURSOR}, 1, &len, &text);
    if (meta && meta_len == META_BYTES && memcmp(meta + 4, log_id, 16) == 0 && cursor &&
        len == sizeof at)
        memcpy(&at, cursor, sizeof at);
    rocksdb_free(text);
    rocksdb_free(meta);
    rocksdb_free(cursor);
    rocksdb_readoptions_destroy(read);
    rocksdb_close(db);
    if (at > end)
        *ret = at;
    return at > end;
}

enum { SCRUB_FEEDS_MAX = 64, BOTTOM_TOO = 2 };

/* The C interface does not say whether it went well. What a compaction that failed left behind goes
 * with the next one: the deletions stay. */
void history_scrub(struct history *h, const uint64_t *feeds, unsigned count)
{
    static const char kinds[] = {KEY_FRESH, KEY_OP, KEY_ROW, KEY_ROLLUP};
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_bottommost_level_compaction(options, BOTTOM_TOO);
    bool all = count == 0 || count > SCRUB_FEEDS_MAX;
    if (all)
        rocksdb_compact_range_opt(h->db.db, options, NULL, 0, NULL, 0);
    for (unsigned i = 0; i < count && !all; i++) {
        for (unsigned k = 0; k < sizeof kinds; k++) {
            char from[ROW_KEY_BYTES], to[ROW_KEY_BYTES];
            history_key(from, kinds[k], feeds[i], (struct row_key){.us = INT64_MIN});
            history_key(to, kinds[k], feeds[i] + 1, (struct row_key){.us = INT64_MIN});
            rocksdb_compact_range_opt(h->db.db, options, from, sizeof from, to, sizeof to);
        }
    }
    rocksdb_compactoptions_destroy(options);
}

/* Zero: what is in memory is flushed first, however little it is, as there is no log of writes. */
enum { CHECKPOINT_LOG_BYTES = 0 };

int history_checkpoint(struct history *h, const char *dir, struct error *err)
{
    char *text = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(h->db.db, &text);
    if (!text)
        rocksdb_checkpoint_create(checkpoint, dir, CHECKPOINT_LOG_BYTES, &text);
    if (checkpoint)
        rocksdb_checkpoint_object_destroy(checkpoint);
    return text ? failed(&h->opts, err, "cannot be copied", text) : 0;
}

int history_db_flush(struct history_db *d, uint64_t cursor)
{
    char *text = NULL;
    size_t len = 0;
    rocksdb_flush(d->db, d->flush, &text);
    char *found =
        text ? NULL : rocksdb_get(d->db, d->read_durable, (char[]){KEY_CURSOR}, 1, &len, &text);
    int code = text ? history_db_error(text) : -EAGAIN;
    if (found && len == sizeof cursor && memcmp(found, &cursor, len) == 0)
        code = 0;
    rocksdb_free(found);
    return code;
}

void history_db_close(struct history_db *d)
{
    if (d->db)
        rocksdb_close(d->db);
    if (d->read) {
        rocksdb_readoptions_destroy(d->read);
        rocksdb_readoptions_destroy(d->read_no_io);
        rocksdb_readoptions_destroy(d->read_durable);
        rocksdb_readoptions_destroy(d->read_once);
        rocksdb_writeoptions_destroy(d->write);
        rocksdb_flushoptions_destroy(d->flush);
        rocksdb_options_destroy(d->options);
        rocksdb_cache_destroy(d->cache);
    }
    *d = (struct history_db){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target over every file of the directories named, in any build. Prints the name before
 * each run, so that the last line names the culprit of a crash. Exits with 77 (skipped) if no
 * directory has a file.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

#define EXIT_SKIP 77

/* 1: ran, 0: no plain file, -1: could not be read. */
static int run_file(const char *path)
{
    struct stat st;
    int rc = -1;
    uint8_t *data = NULL;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) != 0)
        goto end;
    if (!S_ISREG(st.st_mode)) {
        rc = 0;
        goto end;
    }
    size_t size = (size_t)st.st_size;
    data = malloc(size ? size : 1); /* exactly as much, so that a sanitizer sees reads beyond it */
    if (!data || fread(data, 1, size, f) != size)
        goto end;
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    rc = 1;
end:
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    free(data);
    if (f)
        fclose(f);
    return rc;
}

/* Files run, or -1. */
static int run_dir(const char *path)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : -1;
    int count = 0;
    struct dirent *e;
    while (count >= 0 && (e = readdir(dir))) {
        char file[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        int rc = run_file(file);
        count = rc < 0 ? -1 : count + rc;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) {
        int count = run_dir(argv[i]);
        if (count < 0)
            return EXIT_FAILURE;
        total += count;
    }
    printf("%d inputs\n", total);
    return total ? EXIT_SUCCESS : EXIT_SKIP;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "prof/names.h"

#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"

#define SHOWN_BYTES_MAX (8u << 20) /* of names; what comes on top has none */
#define NAME_BYTES_MAX  512        /* of one: C++ has names of kilobytes */

struct text {
    struct text *next;
    char text[];
};

struct names {
    Dwfl *dwfl;
    struct text *shown; /* newest first */
    size_t shown_bytes;
    /* The newest answer of names_function, and what it is the answer to. */
    const char *last, *last_symbol;
    Dwfl_Module *last_module;
    const char *library; /* the newest answer of library_of, and what it is the answer to */
    Dwfl_Module *library_module;
    /* libstdc++'s, which is here because RocksDB is; NULL: it is not. */
    char *(*demangle)(const char *mangled, char *out, size_t *length, int *status);
};

/* The program as it runs, even if its file was replaced since. */
static int find_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base,
                    char **ret_file, Elf **ret_elf)
{
    char own[4096];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    if (len > 0 && slice_eq(slice_str(name), slice_of(own, (size_t)len))) {
        *ret_file = strdup("/proc/self/exe");
        return *ret_file ? open(*ret_file, O_RDONLY | O_CLOEXEC) : -1;
    }
    return dwfl_linux_proc_find_elf(module, data, name, base, ret_file, ret_elf);
}

static const Dwfl_Callbacks callbacks = {
    .find_elf = find_elf,
    .find_debuginfo = dwfl_build_id_find_debuginfo, /* the standard one may ask the network */
};

struct names *names_open(struct error *err)
{
    struct names *n = calloc(1, sizeof *n);
    CHECK(n);
    n->dwfl = dwfl_begin(&callbacks);
    int rc = n->dwfl ? dwfl_linux_proc_report(n->dwfl, getpid()) : -1;
    if (rc != 0 || dwfl_report_end(n->dwfl, NULL, NULL) != 0) {
        error_set(err, -1, "cannot find out what is mapped where: %s",
                  rc > 0 ? strerror(rc) : dwfl_errmsg(-1));
        names_close(n);
        return NULL;
    }
    *(void **)&n->demangle = dlsym(RTLD_DEFAULT, "__cxa_demangle");
    return n;
}

void names_close(struct names *n)
{
    if (!n)
        return;
    while (n->shown) {
        struct text *t = n->shown;
        n->shown = t->next;
        free(t);
    }
    if (n->dwfl)
        dwfl_end(n->dwfl);
    free(n);
}

static const char *symbol_in(Dwfl_Module *module, uint64_t address)
{
    GElf_Off offset;
    GElf_Sym symbol;
    const char *name =
        module ? dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL) : NULL;
    return name && name[0] ? name : NULL;
}

/* Keeps the text. */
static const char *keep(struct names *n, struct slice text)
{
    if (n->shown_bytes + text.len > SHOWN_BYTES_MAX)
        return "[too many names]";
    struct text *t = malloc(sizeof *t + text.len + 1);
    CHECK(t);
    memcpy(t->text, text.ptr, text.len);
    t->text[text.len] = 0;
    t->next = n->shown;
    n->shown = t;
    n->shown_bytes += text.len;
    return t->text;
}

static const char *library_of(struct names *n, Dwfl_Module *module)
{
    char text[NAME_BYTES_MAX];
    if (n->library && module == n->library_module)
        return n->library;
    const char *path =
        module ? dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : "unknown";
    const char *slash = strrchr(path, '/');
    snprintf(text, sizeof text, "[%s]", slash ? slash + 1 : path);
    n->library_module = module;
    n->library = keep(n, slice_str(text));
    return n->library;
}

const char *names_symbol(struct names *n, uint64_t address)
{
    Dwfl_Module *module = dwfl_addrmodule(n->dwfl, address);
    const char *symbol = symbol_in(module, address);
    return symbol ? symbol : module ? library_of(n, module) : NULL;
}

/* "write_run.part.0", "on_input.lto_priv.3", "step.constprop.0", "malloc@@GLIBC_2.2.5" */
static struct slice without_suffix(const char *name)
{
    size_t bare = strcspn(name, ".@");
    return bare ? slice_of(name, bare) : slice_str(name);
}

static const char *show(struct names *n, const char *symbol)
{
    int status = -1;
    bool cpp = symbol[0] == '_' && symbol[1] == 'Z';
    char *words = cpp && n->demangle ? n->demangle(symbol, NULL, NULL, &status) : NULL;
    struct slice name = words && status == 0 ? slice_str(words) : without_suffix(symbol);
    if (name.len > NAME_BYTES_MAX)
        name.len = NAME_BYTES_MAX;
    const char *kept = keep(n, name);
    free(words);
    return kept;
}

const char *names_function(struct names *n, uint64_t address)
{
    Dwfl_Module *module = dwfl_addrmodule(n->dwfl, address);
    const char *symbol = symbol_in(module, address);
    if (n->last && module == n->last_module && symbol == n->last_symbol)
        return n->last;
    n->last = symbol ? show(n, symbol) : library_of(n, module);
    n->last_module = module;
    n->last_symbol = symbol;
    return n->last;
}

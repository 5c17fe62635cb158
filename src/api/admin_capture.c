/* SPDX-License-Identifier: Apache-2.0 */
/* capture take: a sample of the requests that arrive (flow/capture.h). */
#include "api/admin_ops.h"
#include "flow/capture.h"
#include "flow/limits.h"

enum reason capture_lines(struct admin *a, struct admin_call *call)
{
    struct slice text = admin_arg(call, "every");
    uint64_t every = 0;
    if (!admin_opts(a)->history)
        return admin_refuse(call, REASON_bad_request,
                            "requests are recorded by the running server, and none runs here");
    for (size_t i = 0; i < text.len && every <= UINT32_MAX; i++)
        every = every * 10 + (unsigned)(text.ptr[i] - '0');
    if (every > UINT32_MAX)
        return admin_refuse(call, REASON_bad_request, "every: at most %u", UINT32_MAX);
    struct buf lines;
    struct capture_counts counts;
    buf_init(&lines, CAPTURE_BYTES_MAX);
    capture_take((uint32_t)every, &lines, &counts);
    call->ret_result =
        json_pack("{s:I, s:I, s:s%}", "kept", (json_int_t)counts.kept, "dropped",
                  (json_int_t)counts.dropped, "lines", lines.len ? lines.ptr : "", lines.len);
    buf_fini(&lines);
    return call->ret_result ? REASON_ok
                            : admin_refuse(call, REASON_internal, "no memory for the answer");
}

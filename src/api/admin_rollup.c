/* SPDX-License-Identifier: Apache-2.0 */
#include "api/admin_ops.h"
#include "view/history.h"

static enum reason answer(struct admin_call *call, struct history *h)
{
    if (!h)
        return admin_refuse(call, REASON_bad_request,
                            "rollups are kept by the running server, and none runs here");
    uint64_t rolled = history_stats(h).rolled;
    call->ret_result = json_pack("{s:b}", "complete", rolled == UINT64_MAX);
    if (rolled != UINT64_MAX)
        json_object_set_new(call->ret_result, "complete_below_feed",
                            json_integer((json_int_t)rolled));
    return call->reason = REASON_ok;
}

enum reason rollup_show(struct admin *a, struct admin_call *call)
{
    return answer(call, admin_opts(a)->history);
}

enum reason rollup_rebuild(struct admin *a, struct admin_call *call)
{
    struct history *h = admin_opts(a)->history;
    if (h)
        history_rollup_rebuild(h);
    return answer(call, h);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/journal_print.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "flow/publish.h"
#include "flow/session_record.h"

static void prints(const struct record *r, const char *want)
{
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    journal_print(out, false, 7, r);
    fclose(out);
    assert_string_equal(text, want);
    free(text);
}

static void messages_and_sessions(void **state)
{
    struct buf b;
    buf_init(&b, 4096);
    publish_encode(&b, &(struct publish){
                           .qos = 1, .has_expiry = true, .expiry_s = 60, .message = SLICE("on")});
    struct record r = {
        .kind = RECORD_PUBLISH, .account = 3, .topic = SLICE("a/b"), .payload = buf_slice(&b)};
    prints(&r, "7 1970-01-01T00:00:00.000+0000 publish account=3 topic=a/b qos=1 expiry_s=60 "
               "message=on\n");
    r = (struct record){.kind = RECORD_SESSION, .account = 3, .producer.session = 9};
    buf_clear(&b);
    session_record_encode(
        &b, &(struct session_record){.event = SESSION_SUBSCRIBED,
                                     .filter = {.filter = SLICE("a/#"), .qos = 2, .id = 4}});
    r.payload = buf_slice(&b);
    prints(&r, "7 1970-01-01T00:00:00.000+0000 session account=3 session=9 event=subscribed "
               "filter=a/# qos=2 subscription_id=4\n");
    buf_clear(&b);
    const struct session_item item = {.place = session_place(5, 1), .packet_id = 2, .qos = 1};
    session_record_encode(
        &b, &(struct session_record){.event = SESSION_SENT, .items = &item, .count = 1});
    r.payload = buf_slice(&b);
    prints(&r, "7 1970-01-01T00:00:00.000+0000 session account=3 session=9 event=sent "
               "items=[{\"position\":5,\"part\":1,\"packet_id\":2,\"qos\":1}]\n");
    r.payload = SLICE("\x7f");
    prints(&r, "7 1970-01-01T00:00:00.000+0000 session account=3 session=9 payload=\"\x7f\"\n");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_and_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sink/rabbitmq_own.h - what the files of the RabbitMQ sink share. For sink/rabbitmq*.c only; the
 * sink's thread.
 */
#pragma once

#include "sink/amqp.h"
#include "sink/rabbitmq.h"

#define RABBITMQ_NAME_MAX   255u /* bytes of an AMQP short string */
#define RABBITMQ_LOG_ID_LEN 32u  /* hexadecimal digits */
#define RABBITMQ_HEADERS    11u

struct rabbitmq {
    struct rabbitmq_opts opts;
    struct amqp_target target;
    char log_id[RABBITMQ_LOG_ID_LEN + 1];
    struct amqp_link link;
    bool confirmed; /* the broker has confirmed something on this connection */
    /* Of the batch that is being sent: */
    const struct sink_batch *batch;
    uint64_t first_tag;
    unsigned *places; /* of the message with each tag from first_tag on; PLACE_DONE: settled */
    unsigned published, settled, low; /* all before `low` are settled */
    unsigned nacked;
    bool returning;     /* a returned message is being read: */
    uint64_t body_left; /* UINT64_MAX: its header comes first */
};

/* rabbitmq_message.c: a message as AMQP has it. Points into the message and itself. */
struct rabbitmq_message {
    char key[RABBITMQ_NAME_MAX + 1], id[64], places[3][32];
    size_t key_len;
    amqp_table_entry_t headers[RABBITMQ_HEADERS];
    amqp_basic_properties_t properties;
    amqp_bytes_t body;
};
/* NULL, or why no broker could take it: a constant. */
const char *rabbitmq_message(const struct rabbitmq *p, const struct sink_message *m,
                             struct rabbitmq_message *ret);
/* The journal's offset in a message's id; false: it is none of ours. */
bool rabbitmq_message_offset(const struct rabbitmq *p, amqp_bytes_t id, uint64_t *ret);
/* 0, or -EINVAL with what is wrong with it. */
int rabbitmq_check_key(const char *template, struct error *err);

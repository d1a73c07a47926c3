/* Requests of the openai dialect; its answers are held to tests/conformance. */
#include "providers/openai.h"

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "providers/decoder.h"
#include "providers/fault.h"
#include "providers/pieces.h"

static char why[200];
static char body[8192];
static char path[sizeof(((tr_encoded *)0)->path)];

static tr_err encode_with(tr_op op, const char *request, uint32_t quirks, bool stream) {
    tr_chat *chat = NULL;
    tr_encoded encoded;
    body[0] = why[0] = '\0';
    tr_err err = tr_chat_parse(op, request, strlen(request), &chat, why, sizeof(why));
    CU_ASSERT_EQUAL_FATAL(err, TR_OK);
    tr_encode in = {.op = op,
                    .chat = chat,
                    .model = {"m", 1},
                    .stream = stream,
                    .quirks = quirks,
                    .provider = "acme"};
    err = tr_dialect_openai.encode(&in, &encoded, why, sizeof(why));
    tr_chat_free(chat);
    if (err == TR_OK) {
        CU_ASSERT_EQUAL(strlen(encoded.body), encoded.body_size);
        snprintf(body, sizeof(body), "%s", encoded.body);
        snprintf(path, sizeof(path), "%s", encoded.path);
        free(encoded.body);
    }
    return err;
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define HI_OUT                                                                                     \
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],\"stream\":false"

static void encode(const char *fields, uint32_t quirks) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    CU_ASSERT_EQUAL(encode_with(TR_OP_CHAT, request, quirks, false), TR_OK);
}

static tr_err refuse(const char *fields, uint32_t quirks) {
    char request[4096];
    snprintf(request, sizeof(request), "{" HI "%s}", fields);
    return encode_with(TR_OP_CHAT, request, quirks, false);
}

static void a_prompt_is_counted_by_what_the_template_sees_where_the_server_can(void) {
    static const char request[] =
        "{" HI
        ",\"temperature\":0,\"max_tokens\":5,\"chat_template_kwargs\":{\"a\":1},\"user\":\"u\","
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}";
    CU_ASSERT_EQUAL(encode_with(TR_OP_COUNT, request, TR_QUIRK_TOKENIZE, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/tokenize");
    CU_ASSERT_STRING_EQUAL(body,
                           "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}],"
                           "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
                           "\"chat_template_kwargs\":{\"a\":1}}");
    CU_ASSERT_EQUAL(encode_with(TR_OP_COUNT, request, 0, false), TR_ERR_UNSUPPORTED);
}

static void a_plain_question_is_written_plainly(void) {
    encode("", 0);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT "}");
    CU_ASSERT_STRING_EQUAL(path, "/chat/completions");
}

static void a_stream_asks_for_usage_unless_the_server_refuses_that(void) {
    CU_ASSERT_EQUAL(encode_with(TR_OP_CHAT, "{" HI "}", 0, true), TR_OK);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(body, "\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
    CU_ASSERT_EQUAL(encode_with(TR_OP_CHAT, "{" HI "}", TR_QUIRK_NO_STREAM_OPTIONS, true), TR_OK);
    CU_ASSERT_PTR_NULL(strstr(body, "stream_options"));
}

static void sampling_options_go_under_the_servers_names(void) {
    encode(",\"temperature\":0.5,\"top_p\":1,\"seed\":7,\"max_tokens\":9,\"stop\":[\"a\",\"b\"]",
           0);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"temperature\":0.5,\"top_p\":1,\"seed\":7,"
                                        "\"max_tokens\":9,\"stop\":[\"a\",\"b\"]}");
    encode(",\"seed\":7,\"max_tokens\":9", TR_QUIRK_MAX_COMPLETION_TOKENS | TR_QUIRK_RANDOM_SEED);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"random_seed\":7,\"max_completion_tokens\":9}");
    encode(",\"repeat_penalty\":1.5", TR_QUIRK_REPETITION_PENALTY);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"repetition_penalty\":1.5}");
    encode(",\"grammar\":\"root ::= x\"", TR_QUIRK_STRUCTURED_OUTPUTS);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"structured_outputs\":{\"grammar\":\"root ::= x\"}}");
    encode(",\"grammar\":\"root ::= x\",\"top_k\":5,\"min_p\":0.25,\"repeat_last_n\":3,"
           "\"reasoning_effort\":\"low\"",
           TR_QUIRK_GRAMMAR | TR_QUIRK_TOP_K | TR_QUIRK_MIN_P | TR_QUIRK_REPEAT_LAST_N);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"min_p\":0.25,\"top_k\":5,\"repeat_last_n\":3,"
                                        "\"reasoning_effort\":\"low\",\"grammar\":\"root ::= x\"}");
}

static void what_the_server_cannot_do_is_refused_not_dropped(void) {
    CU_ASSERT_EQUAL(refuse(",\"top_k\":5", 0), TR_ERR_UNSUPPORTED);
    CU_ASSERT_STRING_EQUAL(why, "provider acme does not take top_k");
    CU_ASSERT_EQUAL(refuse(",\"min_p\":0.5", 0), TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(refuse(",\"repeat_penalty\":1.5", 0), TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(refuse(",\"grammar\":\"x\"", 0), TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(refuse(",\"seed\":1", TR_QUIRK_NO_SEED), TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(refuse(",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]", TR_QUIRK_STOP_4),
                    TR_ERR_UNSUPPORTED);
    CU_ASSERT_EQUAL(refuse(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                           "{\"schema\":{\"type\":\"array\"}}}",
                           TR_QUIRK_NO_SCHEMA),
                    TR_ERR_UNSUPPORTED);
}

static void a_providers_own_fields_pass_and_win(void) {
    encode(",\"n\":2,\"logit_bias\":{\"5\":-1.0}", 0);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"n\":2,\"logit_bias\":{\"5\":-1.0}}");
    encode(",\"seed\":7,\"random_seed\":8", TR_QUIRK_RANDOM_SEED);
    CU_ASSERT_STRING_EQUAL(body, HI_OUT ",\"random_seed\":8}");
}

static void what_another_dialects_answer_wants_back_stays_here(void) {
    CU_ASSERT_EQUAL(encode_with(TR_OP_CHAT,
                                "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":"
                                "\"assistant\",\"content\":\"A\",\"content_blocks\":[],"
                                "\"gemini_parts\":[],\"responses_output\":[],"
                                "\"reasoning_details\":[1.0]}]}",
                                0, false),
                    TR_OK);
    CU_ASSERT_STRING_EQUAL(
        body, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
              "{\"role\":\"assistant\",\"content\":\"A\",\"reasoning_details\":[1.0]}],"
              "\"stream\":false}");
}

static void what_only_the_provider_knows_goes_on_as_it_was_written(void) {
    encode(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"mine\","
           "\"strict\":false,\"schema\":{\"type\":\"array\"}}},\"tools\":[{\"type\":\"function\","
           "\"function\":{\"name\":\"f\",\"strict\":true}}]",
           0);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "{\"name\":\"mine\",\"strict\":false,\"schema\":"));
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "{\"name\":\"f\",\"strict\":true}"));
}

static void a_schema_is_strict_when_it_is_closed(void) {
    encode(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":"
           "\"object\",\"additionalProperties\":false}}}",
           0);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"json_schema\":{\"name\":\"answer\",\"strict\":true,"
                                        "\"schema\":{\"type\":\"object\""));
    encode(",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":"
           "\"array\"}}}",
           0);
    CU_ASSERT_PTR_NOT_NULL(
        strstr(body, "\"json_schema\":{\"name\":\"answer\",\"schema\":{\"type\":\"array\"}}"));
    encode(",\"response_format\":{\"type\":\"json_object\"}", TR_QUIRK_NO_SCHEMA);
    CU_ASSERT_PTR_NOT_NULL(strstr(body, "\"response_format\":{\"type\":\"json_object\"}"));
}

static void turns_parts_tools_and_calls_are_written_whole(void) {
    static const char request[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\",\"cache\":1},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\"}}],\"name\":\"bob\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"},\"sig\":2}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"R\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
        "\"parameters\":{\"type\":\"object\"}}}],\"tool_choice\":\"auto\"}";
    CU_ASSERT_EQUAL(encode_with(TR_OP_CHAT, request, 0, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(
        body,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"S\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"T\",\"cache\":1},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:x\"}}],\"name\":\"bob\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"},\"sig\":2}]},"
        "{\"role\":\"tool\",\"content\":\"R\",\"tool_call_id\":\"c1\"}],\"stream\":false,"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
        "\"parameters\":{\"type\":\"object\"}}}],\"tool_choice\":\"auto\"}");
}

static void embeddings_have_an_endpoint_of_their_own(void) {
    CU_ASSERT_EQUAL(
        encode_with(TR_OP_EMBED, "{\"input\":[\"a\",\"b\"],\"dimensions\":3}", 0, false), TR_OK);
    CU_ASSERT_STRING_EQUAL(path, "/embeddings");
    CU_ASSERT_STRING_EQUAL(body, "{\"model\":\"m\",\"input\":[\"a\",\"b\"],"
                                 "\"encoding_format\":\"float\",\"dimensions\":3}");
    CU_ASSERT_EQUAL(encode_with(TR_OP_EMBED, "{\"input\":\"a\"}", TR_QUIRK_NO_EMBED, false),
                    TR_ERR_UNSUPPORTED);
}

static float vector[4];
static uint32_t vector_choice;

static tr_err take_vector(void *arg, const tr_piece *piece) {
    (void)arg;
    CU_ASSERT_EQUAL(piece->kind, TR_DELTA_OPAQUE);
    CU_ASSERT_FATAL(piece->text.size <= sizeof(vector));
    vector_choice = piece->choice;
    memcpy(vector, piece->text.ptr, piece->text.size);
    return TR_OK;
}

static void a_vector_comes_out_as_little_endian_floats(void) {
    static const char answer[] = "{\"data\":[{\"index\":1,\"embedding\":[0.5,-1,2e3]}],"
                                 "\"usage\":{\"prompt_tokens\":4}}";
    tr_decoder *decoder = NULL;
    CU_ASSERT_EQUAL_FATAL(
        tr_decoder_new(&tr_dialect_openai, TR_OP_EMBED, take_vector, NULL, &decoder), TR_OK);
    tr_decoder_head(decoder, 200);
    CU_ASSERT_EQUAL(tr_decoder_feed(decoder, answer, sizeof(answer) - 1), TR_OK);
    CU_ASSERT_EQUAL(tr_decoder_end(decoder, false), TR_DONE);
    CU_ASSERT_EQUAL(vector_choice, 1);
    CU_ASSERT(vector[0] == 0.5F && vector[1] == -1.0F && vector[2] == 2000.0F);
    CU_ASSERT_EQUAL(tr_decoder_outcome(decoder)->usage.in, 4);
    tr_decoder_free(decoder);
}

static void a_failure_after_the_end_changes_nothing(void) {
    static const char answer[] =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        "data: [DONE]\n\n";
    tr_decoder *decoder = NULL;
    CU_ASSERT_EQUAL_FATAL(
        tr_decoder_new(&tr_dialect_openai, TR_OP_CHAT, take_vector, NULL, &decoder), TR_OK);
    tr_decoder_head(decoder, 200);
    CU_ASSERT_EQUAL(tr_decoder_feed(decoder, answer, sizeof(answer) - 1), TR_DONE);
    CU_ASSERT_EQUAL(tr_decoder_feed(decoder, "data: {\"error\":\"x\"}\n\n", 20), TR_DONE);
    CU_ASSERT_EQUAL(tr_decoder_end(decoder, true), TR_DONE);
    CU_ASSERT_EQUAL(tr_decoder_outcome(decoder)->err, TR_OK);
    tr_decoder_free(decoder);
}

static tr_err fault_of(uint16_t status, const char *code, const char *message) {
    tr_fault fault = {.status = status,
                      .code = {code, strlen(code)},
                      .type = {"", 0},
                      .message = {message, strlen(message)}};
    return tr_fault_classify(&fault);
}

static void every_status_has_its_class(void) {
    static const struct {
        uint16_t status;
        tr_err err;
    } table[] = {{400, TR_ERR_INVALID},    {401, TR_ERR_AUTH},      {402, TR_ERR_QUOTA},
                 {403, TR_ERR_AUTH},       {404, TR_ERR_NOT_FOUND}, {408, TR_ERR_TIMEOUT},
                 {413, TR_ERR_TOO_LARGE},  {422, TR_ERR_INVALID},   {429, TR_ERR_RATE_LIMIT},
                 {498, TR_ERR_OVERLOADED}, {500, TR_ERR_SERVER},    {502, TR_ERR_SERVER},
                 {503, TR_ERR_OVERLOADED}, {504, TR_ERR_TIMEOUT},   {529, TR_ERR_OVERLOADED},
                 {418, TR_ERR_INVALID},    {302, TR_ERR_NOT_FOUND}, {200, TR_ERR_SERVER}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        CU_ASSERT_EQUAL(fault_of(table[i].status, "", ""), table[i].err);
    }
}

static void words_decide_before_statuses(void) {
    CU_ASSERT_EQUAL(fault_of(429, "insufficient_quota", ""), TR_ERR_QUOTA);
    CU_ASSERT_EQUAL(fault_of(400, "context_length_exceeded", ""), TR_ERR_CONTEXT_LENGTH);
    CU_ASSERT_EQUAL(fault_of(400, "", "This model's Maximum Context Length is 5 tokens"),
                    TR_ERR_CONTEXT_LENGTH);
    CU_ASSERT_EQUAL(fault_of(429, "", "tokens per minute; maximum context length"),
                    TR_ERR_RATE_LIMIT);
    CU_ASSERT_EQUAL(fault_of(400, "", "Incorrect API key provided"), TR_ERR_AUTH);
    CU_ASSERT_EQUAL(fault_of(400, "content_filter", ""), TR_ERR_FILTERED);
    CU_ASSERT_EQUAL(fault_of(200, "timeout_error", ""), TR_ERR_TIMEOUT);
    CU_ASSERT_EQUAL(fault_of(200, "overloaded_error", ""), TR_ERR_OVERLOADED);
    CU_ASSERT_EQUAL(fault_of(200, "request_too_large", ""), TR_ERR_TOO_LARGE);
    CU_ASSERT_EQUAL(fault_of(400, "", "Your credit balance is too low to access the API"),
                    TR_ERR_QUOTA);
    CU_ASSERT_EQUAL(fault_of(400, "", "input length and `max_tokens` exceed context limit: 9 > 5"),
                    TR_ERR_CONTEXT_LENGTH);
}

static void neighbouring_texts_join_and_others_do_not(void) {
    tri_pieces pieces = {0};
    tr_piece text = {.kind = TR_DELTA_TEXT, .text = {"ab", 2}};
    tr_piece thought = {.kind = TR_DELTA_REASONING, .text = {"c", 1}};
    tr_piece other = {.kind = TR_DELTA_TEXT, .choice = 1, .text = {"d", 1}};
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &text), TR_OK);
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &text), TR_OK);
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &thought), TR_OK);
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &text), TR_OK);
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &other), TR_OK);
    static const char *const expected[] = {"abab", "c", "ab", "d"};
    for (uint32_t i = 0; i < 4; i++) {
        CU_ASSERT_FALSE_FATAL(tri_pieces_empty(&pieces));
        size_t size = tri_pieces_next_size(&pieces);
        tr_msg *msg = tri_pieces_take(&pieces);
        CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
        const tr_delta *delta = (const void *)msg->data;
        tr_str got = tr_delta_read(delta).text;
        CU_ASSERT_EQUAL(delta->seq, i);
        CU_ASSERT_EQUAL(msg->size, size);
        CU_ASSERT_EQUAL(got.size, strlen(expected[i]));
        CU_ASSERT_NSTRING_EQUAL(got.ptr, expected[i], got.size);
        tr_msg_free(msg);
    }
    CU_ASSERT(tri_pieces_empty(&pieces));
    tri_pieces_fini(&pieces);
}

static void a_long_field_goes_on_without_its_name(void) {
    static char text[TR_DELTA_TEXT_max + 10];
    memset(text, 'x', sizeof(text));
    tri_pieces pieces = {0};
    tr_piece field = {.kind = TR_DELTA_OPAQUE, .name = {"field", 5}, .text = {text, sizeof(text)}};
    CU_ASSERT_EQUAL(tri_pieces_add(&pieces, &field), TR_OK);
    for (int i = 0; i < 2; i++) {
        tr_msg *msg = tri_pieces_take(&pieces);
        CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
        tr_delta_view view = tr_delta_read((const void *)msg->data);
        CU_ASSERT_EQUAL(view.name.size, i == 0 ? 5 : 0);
        CU_ASSERT_EQUAL(view.text.size, i == 0 ? TR_DELTA_TEXT_max : 10);
        tr_msg_free(msg);
    }
    CU_ASSERT(tri_pieces_empty(&pieces));
    tri_pieces_fini(&pieces);
}

int main(void) {
    if (CU_initialize_registry() != CUE_SUCCESS) {
        return 1;
    }
    CU_pSuite suite = CU_add_suite("openai", NULL, NULL);
    CU_ADD_TEST(suite, a_plain_question_is_written_plainly);
    CU_ADD_TEST(suite, a_prompt_is_counted_by_what_the_template_sees_where_the_server_can);
    CU_ADD_TEST(suite, a_stream_asks_for_usage_unless_the_server_refuses_that);
    CU_ADD_TEST(suite, sampling_options_go_under_the_servers_names);
    CU_ADD_TEST(suite, what_the_server_cannot_do_is_refused_not_dropped);
    CU_ADD_TEST(suite, a_providers_own_fields_pass_and_win);
    CU_ADD_TEST(suite, what_another_dialects_answer_wants_back_stays_here);
    CU_ADD_TEST(suite, what_only_the_provider_knows_goes_on_as_it_was_written);
    CU_ADD_TEST(suite, a_schema_is_strict_when_it_is_closed);
    CU_ADD_TEST(suite, turns_parts_tools_and_calls_are_written_whole);
    CU_ADD_TEST(suite, embeddings_have_an_endpoint_of_their_own);
    CU_ADD_TEST(suite, a_vector_comes_out_as_little_endian_floats);
    CU_ADD_TEST(suite, a_failure_after_the_end_changes_nothing);
    CU_ADD_TEST(suite, every_status_has_its_class);
    CU_ADD_TEST(suite, words_decide_before_statuses);
    CU_ADD_TEST(suite, neighbouring_texts_join_and_others_do_not);
    CU_ADD_TEST(suite, a_long_field_goes_on_without_its_name);
    CU_basic_set_mode(CU_BRM_NORMAL);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed == 0 ? 0 : 1;
}

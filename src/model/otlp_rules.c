/* otlp_rules.c -- attributes of Langfuse's SDKs and the few OpenTelemetry GenAI ones that tell a generation. */
#include "model/otlp_rules.h"

#define ROW(field, key, match, decoder, where) \
    { key, (uint8_t)(sizeof(key) - 1), match, decoder, where, (uint16_t)offsetof(struct otlp_fields, field) }
#define SPAN(field, key, decoder) ROW(field, key, MATCH_EXACT, decoder, IN_SPAN)
#define EITHER(field, key, decoder) ROW(field, key, MATCH_EXACT, decoder, IN_SPAN | IN_RESOURCE)
#define RESOURCE(field, key, decoder) ROW(field, key, MATCH_EXACT, decoder, IN_RESOURCE)
#define PREFIX(field, key) ROW(field, key, MATCH_PREFIX, AS_ENTRIES, IN_SPAN)
#define TRACE(field, key, decoder) ROW(field, key, MATCH_EXACT, decoder, IN_SPAN | OF_TRACE)
#define TRACE_PREFIX(field, key) ROW(field, key, MATCH_PREFIX, AS_ENTRIES, IN_SPAN | OF_TRACE)

/* clang-format off: one row a line */
const struct otlp_rule otlp_rules[] = {
    /* the observation */
    SPAN(type, "langfuse.observation.type", AS_TYPE),
    SPAN(level, "langfuse.observation.level", AS_LEVEL),
    SPAN(status_message, "langfuse.observation.status_message", AS_TEXT),
    SPAN(model, "langfuse.observation.model.name", AS_TEXT),
    SPAN(model, "langfuse.generation.model", AS_TEXT),
    SPAN(model, "gen_ai.response.model", AS_TEXT),
    SPAN(model, "gen_ai.request.model", AS_TEXT),
    SPAN(model_parameters, "langfuse.observation.model.parameters", AS_OBJECT),
    SPAN(input, "langfuse.observation.input", AS_PAYLOAD),
    SPAN(output, "langfuse.observation.output", AS_PAYLOAD),
    SPAN(usage, "langfuse.observation.usage_details", AS_USAGE),
    SPAN(cost, "langfuse.observation.cost_details", AS_COST),
    SPAN(tokens_in, "gen_ai.usage.input_tokens", AS_COUNT),
    SPAN(tokens_in, "gen_ai.usage.prompt_tokens", AS_COUNT),
    SPAN(tokens_out, "gen_ai.usage.output_tokens", AS_COUNT),
    SPAN(tokens_out, "gen_ai.usage.completion_tokens", AS_COUNT),
    SPAN(tokens_total, "gen_ai.usage.total_tokens", AS_COUNT),
    SPAN(prompt_name, "langfuse.observation.prompt.name", AS_TEXT),
    SPAN(prompt_name, "langfuse.prompt.name", AS_TEXT),
    SPAN(prompt_version, "langfuse.observation.prompt.version", AS_TEXT),
    SPAN(prompt_version, "langfuse.prompt.version", AS_TEXT),
    SPAN(completion_start, "langfuse.observation.completion_start_time", AS_TIME),
    SPAN(metadata, "langfuse.observation.metadata", AS_ENTRIES),
    SPAN(metadata, "langfuse.metadata", AS_ENTRIES),
    PREFIX(metadata, "langfuse.observation.metadata."),
    PREFIX(metadata, "langfuse.metadata."),
    /* both */
    EITHER(environment, "langfuse.environment", AS_ENV),
    EITHER(environment, "deployment.environment.name", AS_ENV),
    EITHER(environment, "deployment.environment", AS_ENV),
    ROW(release, "langfuse.release", MATCH_EXACT, AS_TEXT, IN_SPAN | IN_RESOURCE | OF_TRACE),
    EITHER(version, "langfuse.version", AS_TEXT),
    RESOURCE(version, "service.version", AS_TEXT),
    /* the trace */
    TRACE(trace_name, "langfuse.trace.name", AS_TEXT),
    TRACE(user, "langfuse.user.id", AS_TEXT),
    TRACE(user, "user.id", AS_TEXT),
    TRACE(user, "langfuse.observation.metadata.langfuse_user_id", AS_TEXT),
    TRACE(user, "langfuse.trace.metadata.langfuse_user_id", AS_TEXT),
    TRACE(session, "langfuse.session.id", AS_TEXT),
    TRACE(session, "session.id", AS_TEXT),
    TRACE(session, "langfuse.observation.metadata.langfuse_session_id", AS_TEXT),
    TRACE(session, "langfuse.trace.metadata.langfuse_session_id", AS_TEXT),
    TRACE(trace_input, "langfuse.trace.input", AS_PAYLOAD),
    TRACE(trace_output, "langfuse.trace.output", AS_PAYLOAD),
    TRACE(tags, "langfuse.trace.tags", AS_ATTR),
    TRACE(tags, "langfuse.tags", AS_ATTR),
    TRACE(tags, "langfuse.observation.metadata.langfuse_tags", AS_ATTR),
    TRACE(tags, "langfuse.trace.metadata.langfuse_tags", AS_ATTR),
    TRACE(is_public, "langfuse.trace.public", AS_BOOL),
    TRACE(is_public, "langfuse.public", AS_BOOL),
    TRACE(as_root, "langfuse.internal.as_root", AS_FLAG),
    TRACE(trace_metadata, "langfuse.trace.metadata", AS_ENTRIES),
    TRACE(trace_metadata, "langfuse.metadata", AS_ENTRIES),
    TRACE_PREFIX(trace_metadata, "langfuse.metadata."),
    TRACE_PREFIX(trace_metadata, "langfuse.trace.metadata."),
};
/* clang-format on */
const size_t otlp_rules_n = sizeof otlp_rules / sizeof otlp_rules[0];

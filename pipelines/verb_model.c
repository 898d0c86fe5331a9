/* agon model: verbs about a model; each is in its own file. */
#include "pipelines/verb.h"

static const struct agon_verb verbs[] = {
    {"chat", agon_verb_model_chat, "talk to a model by hand"},
    {"encode", agon_verb_model_encode, "messages to the exact bytes of a prompt"},
    {"parse", agon_verb_model_parse, "a completion to a message"},
    {"tokenize", agon_verb_model_tokenize, "text to ids and back"},
    {"logits", agon_verb_model_logits, "what a checkpoint says of a list of ids"},
    {"sample", agon_verb_model_sample, "completions for a trainer, in JSON lines"},
    {"serve", agon_verb_model_serve, "a checkpoint behind OpenAI's HTTP API"},
    {"score", agon_verb_model_score, "log-probabilities of given ids, free or forced"},
    {"check", agon_verb_model_check, "a checkpoint folder against its config.json, without its data"},
    {"random", agon_verb_model_random, "write a random checkpoint of any size"},
    {"info", agon_verb_model_info, "what a checkpoint is"},
    {"bench", agon_verb_model_bench, "how fast a checkpoint runs here"},
    {"dequantize", agon_verb_model_dequantize, "write the BF16 twin of an FP8 checkpoint"},
    {0},
};

int agon_verb_model(int argc, char **argv)
{
    return agon_verb_run("agon model", verbs, "Windows into a model.", argc, argv);
}

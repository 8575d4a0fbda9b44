/* One greedy generation through the C ABI, in C99:

     cc -std=c99 -I include examples/c/generate.c -L build/release/lib -lorcd -o generate
     LD_LIBRARY_PATH=build/release/lib ./generate MODEL.gguf "The sky is" 16

   Prints the plan on stderr, the text as it comes, then the ids and the digest of the logits they were drawn
   from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orcd/orcd.h"

/* Tells why a call failed; gives the program's exit code. */
static int failed(const orcd_context* context, const char* what) {
  orcd_error error;
  const char* name = "";
  memset(&error, 0, sizeof error);
  error.struct_size = sizeof error;
  orcd_last_error(context, &error);
  orcd_status_name(error.status, &name);
  fprintf(stderr, "%s: %s: %s; %s\n", what, name, error.message, error.hint);
  return EXIT_FAILURE;
}

static int print_plan(orcd_context* context, const orcd_model_options* options) {
  orcd_plan plan;
  memset(&plan, 0, sizeof plan);
  plan.struct_size = sizeof plan;
  if (orcd_model_plan(context, options, &plan) != ORCD_STATUS_OK) return failed(context, "plan");
  fprintf(stderr, "%llu bytes on %s, %llu of them weights; %s\n", (unsigned long long)plan.total_bytes,
          options->device, (unsigned long long)plan.weights_bytes, plan.fits ? "fits" : "does not fit");
  return EXIT_SUCCESS;
}

/* Reads to the end: text to stdout at once, ids into `ids`, which has room for all of them. */
static orcd_status read_answer(orcd_generation* generation, int32_t* ids, size_t* n_ids) {
  char small[256];
  char* text = small;
  size_t capacity = sizeof small, n_bytes = 0;
  orcd_token token;
  orcd_status status;
  memset(&token, 0, sizeof token);
  token.struct_size = sizeof token;
  for (;;) {
    status = orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, text, capacity, &n_bytes);
    if (status == ORCD_STATUS_BUFFER_TOO_SMALL) { /* the same token comes again */
      char* larger = malloc(n_bytes + 1);
      if (larger == NULL) break;
      if (text != small) free(text);
      text = larger;
      capacity = n_bytes + 1;
      continue;
    }
    if (status != ORCD_STATUS_OK) break;
    fwrite(text, 1, n_bytes, stdout);
    fflush(stdout);
    if (token.id != ORCD_NO_TOKEN) ids[(*n_ids)++] = token.id;
  }
  if (text != small) free(text);
  return status;
}

static int generate(orcd_context* context, orcd_model* model, const char* prompt, uint32_t max_tokens) {
  orcd_generation_options options;
  orcd_generation* generation = NULL;
  orcd_generation_result result;
  size_t n_ids = 0, i;
  int code = EXIT_SUCCESS;
  int32_t* ids = malloc(sizeof *ids * ((size_t)max_tokens + 1));
  if (ids == NULL) return EXIT_FAILURE;
  memset(&result, 0, sizeof result);
  result.struct_size = sizeof result;
  orcd_generation_options_init(&options, sizeof options);
  options.max_tokens = max_tokens;
  options.temperature = 0.0f;
  if (orcd_generation_start(model, prompt, strlen(prompt), &options, &generation) != ORCD_STATUS_OK) {
    code = failed(context, "start");
  } else if (read_answer(generation, ids, &n_ids) != ORCD_STATUS_END) {
    code = failed(context, "next token");
  } else if (orcd_generation_get_result(generation, &result) != ORCD_STATUS_OK) {
    code = failed(context, "result");
  } else {
    printf("\ntokens:");
    for (i = 0; i < n_ids; ++i) printf(" %d", (int)ids[i]);
    printf("\nlogits: %s\n", result.logits_digest);
  }
  if (generation != NULL) orcd_generation_free(generation);
  free(ids);
  return code;
}

int main(int argc, char** argv) {
  orcd_context* context = NULL;
  orcd_model* model = NULL;
  orcd_model_options options;
  int code;
  if (argc != 4) {
    fprintf(stderr, "usage: %s MODEL.gguf PROMPT MAX_TOKENS\n", argv[0]);
    return 2;
  }
  if (orcd_context_create(&context) != ORCD_STATUS_OK) return failed(NULL, "create");
  orcd_model_options_init(&options, sizeof options);
  options.path = argv[1];
  options.device = "cpu"; /* or "cuda:0": there is no default */
  code = print_plan(context, &options);
  if (code == EXIT_SUCCESS && orcd_model_load(context, &options, &model) != ORCD_STATUS_OK)
    code = failed(context, "load");
  if (code == EXIT_SUCCESS) code = generate(context, model, argv[2], (uint32_t)strtoul(argv[3], NULL, 10));
  /* Ends and frees whatever was made from it: the model too. */
  if (orcd_context_destroy(context) != ORCD_STATUS_OK) code = failed(NULL, "destroy");
  return code;
}

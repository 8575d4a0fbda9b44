/* Loads a model, draws tokens and unloads it again, many times: cycles MODEL.gguf WARM_UP CYCLES. Prints how
   much resident memory the cycles after the warm-up left behind, and what the devices' allocators still
   count, in bytes. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orcd/orcd.h"

static void need(orcd_status status, const char* what) {
  orcd_error error;
  if (status == ORCD_STATUS_OK) return;
  memset(&error, 0, sizeof error);
  error.struct_size = sizeof error;
  orcd_last_error(NULL, &error);
  fprintf(stderr, "%s: %d: %s\n", what, (int)status, error.message);
  exit(EXIT_FAILURE);
}

static orcd_process_memory memory_of(orcd_context* context) {
  orcd_process_memory memory;
  memset(&memory, 0, sizeof memory);
  memory.struct_size = sizeof memory;
  malloc_trim(0); /* what the C library keeps for later is no leak */
  need(orcd_process_get_memory(context, &memory), "process memory");
  return memory;
}

/* Every second model is unloaded while its generation runs. */
static void cycle(orcd_context* context, const char* path, int n) {
  orcd_model_options options;
  orcd_generation_options wanted;
  orcd_model* model = NULL;
  orcd_generation* generation = NULL;
  orcd_token token;
  char text[256];
  size_t n_bytes = 0;
  orcd_status status = ORCD_STATUS_OK;
  memset(&token, 0, sizeof token);
  token.struct_size = sizeof token;
  need(orcd_model_options_init(&options, sizeof options), "options");
  need(orcd_generation_options_init(&wanted, sizeof wanted), "options");
  options.path = path;
  options.device = "cpu";
  options.n_threads = 2;
  wanted.max_tokens = n % 2 == 0 ? 4 : 1000;
  wanted.flags = ORCD_GENERATE_IGNORE_END;
  need(orcd_model_load(context, &options, &model), "load");
  need(orcd_generation_start(model, "a", 1, &wanted, &generation), "start");
  while (n % 2 == 0 && status == ORCD_STATUS_OK)
    status = orcd_generation_next_token(generation, ORCD_WAIT_FOREVER, &token, text, sizeof text, &n_bytes);
  if (n % 2 == 0) need(orcd_generation_free(generation), "free");
  need(orcd_model_unload(model), "unload");
}

int main(int argc, char** argv) {
  orcd_context* context = NULL;
  orcd_process_memory before, after;
  int i, warm_up, cycles;
  if (argc != 4) return 2;
  warm_up = atoi(argv[2]);
  cycles = atoi(argv[3]);
  need(orcd_context_create(&context), "create");
  for (i = 0; i < warm_up; ++i) cycle(context, argv[1], i);
  before = memory_of(context);
  for (i = 0; i < cycles; ++i) cycle(context, argv[1], i);
  after = memory_of(context);
  printf("rss_growth %lld\ndevice_bytes %llu\npinned_host_bytes %llu\n",
         (long long)after.resident_bytes - (long long)before.resident_bytes,
         (unsigned long long)after.device_bytes, (unsigned long long)after.pinned_host_bytes);
  need(orcd_context_destroy(context), "destroy");
  return EXIT_SUCCESS;
}

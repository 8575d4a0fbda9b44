/* Leaves with everything in use: leave MODEL.gguf exit|unload LIBRARY
     exit    main returns while a generation runs and another thread waits for a token that is far away
     unload  dlclose with a model and a generation alive, made by the thread that calls it; prints how many
   threads the library had before and after, and whether it is still in memory */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "orcd/orcd.h"

/* The functions, from wherever they were loaded. */
static orcd_status (*context_create)(orcd_context**);
static orcd_status (*options_init)(orcd_model_options*, uint32_t);
static orcd_status (*model_load)(orcd_context*, const orcd_model_options*, orcd_model**);
static orcd_status (*generation_options_init)(orcd_generation_options*, uint32_t);
static orcd_status (*generation_start)(orcd_model*, const char*, size_t, const orcd_generation_options*,
                                       orcd_generation**);
static orcd_status (*next_token)(orcd_generation*, uint32_t, orcd_token*, char*, size_t, size_t*);

static int with_reader;

static void find(void* library, const char* name, void* function) {
  void* symbol = dlsym(library, name);
  if (symbol == NULL) exit(3);
  memcpy(function, &symbol, sizeof symbol);
}

static orcd_generation* started(orcd_model* model) {
  orcd_generation_options wanted;
  orcd_generation* generation = NULL;
  if (generation_options_init(&wanted, sizeof wanted) != ORCD_STATUS_OK) exit(4);
  wanted.max_tokens = 100000;
  wanted.flags = ORCD_GENERATE_IGNORE_END;
  if (generation_start(model, "a", 1, &wanted, &generation) != ORCD_STATUS_OK) exit(5);
  return generation;
}

static orcd_status take(orcd_generation* generation) {
  orcd_token token;
  char text[256];
  size_t n_bytes;
  memset(&token, 0, sizeof token);
  token.struct_size = sizeof token;
  return next_token(generation, ORCD_WAIT_FOREVER, &token, text, sizeof text, &n_bytes);
}

static void* take_all(void* generation) {
  while (take(generation) == ORCD_STATUS_OK) {
  }
  return NULL;
}

static int n_threads(void) {
  int n = 0;
  struct dirent* entry;
  DIR* tasks = opendir("/proc/self/task");
  while (tasks != NULL && (entry = readdir(tasks)) != NULL) n += entry->d_name[0] != '.';
  if (tasks != NULL) closedir(tasks);
  return n;
}

static void load_and_start(char* path) {
  orcd_context* context = NULL;
  orcd_model* model = NULL;
  orcd_model_options options;
  orcd_generation* generation;
  pthread_t reader;
  if (context_create(&context) != ORCD_STATUS_OK) exit(6);
  if (options_init(&options, sizeof options) != ORCD_STATUS_OK) exit(7);
  options.path = path;
  options.device = "cpu";
  options.n_threads = 2;
  options.n_slots = 1;
  if (model_load(context, &options, &model) != ORCD_STATUS_OK) exit(8);
  generation = started(model);
  if (take(generation) != ORCD_STATUS_OK) exit(9);
  if (with_reader && pthread_create(&reader, NULL, take_all, started(model)) != 0) exit(10);
}

int main(int argc, char** argv) {
  int before;
  void* library;
  if (argc != 4) return 2;
  library = dlopen(argv[3], RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) return 3;
  find(library, "orcd_context_create", &context_create);
  find(library, "orcd_model_options_init", &options_init);
  find(library, "orcd_model_load", &model_load);
  find(library, "orcd_generation_options_init", &generation_options_init);
  find(library, "orcd_generation_start", &generation_start);
  find(library, "orcd_generation_next_token", &next_token);
  before = n_threads();
  with_reader = strcmp(argv[2], "exit") == 0;
  load_and_start(argv[1]);
  if (with_reader) return EXIT_SUCCESS;
  printf("%d", n_threads() - before);
  dlclose(library);
  printf(" %d", n_threads() - before);
  printf(" %d\n", dlopen(argv[3], RTLD_NOW | RTLD_NOLOAD) != NULL);
  return EXIT_SUCCESS;
}

// orcd.h: the C ABI of worker-orcd. A program that links liborcd loads GGUF models, each on one device that
// it names, and reads tokens from them: the same engine, and for the same request the same bits, as the
// worker.
//
// These rules hold for every function; what differs from them is said where it differs.
//
// STATUS. Every function returns an orcd_status and writes its result through its last pointers. If it is
// not ORCD_STATUS_OK, no result was written (a handle result is NULL), nothing changed, and
// orcd_last_error() tells message and hint. No exception leaves the library, and nothing is printed.
// "Errors:" at a function names those beside the general ones, which every function may return:
// INVALID_ARGUMENT, INVALID_HANDLE, WRONG_STATE (see FORK), OUT_OF_MEMORY, INTERNAL.
//
// POINTERS. NULL is ORCD_STATUS_INVALID_ARGUMENT, for handles too; where NULL is allowed, it says so.
//
// HANDLES. orcd_context, orcd_model and orcd_generation are keys and are never dereferenced. A handle that
// was freed, was never given out, or is of another kind is ORCD_STATUS_INVALID_HANDLE, never a crash. No
// handle is given out twice in a process.
//
// OWNERSHIP. Who creates frees: orcd_context_destroy, orcd_model_unload, orcd_generation_free. Freeing a
// parent frees its children first (a context its models, a model its generations): their work is cancelled,
// and their handles are invalid from then on. What is passed in is copied before the call returns, and
// stays the caller's. Results lie in memory of the caller, but for three kinds of text: those of
// orcd_status_name and orcd_get_version are constants of the library, those of orcd_last_error belong to
// the calling thread.
//
// THREADS. Any function may be called from any thread at any time with any handle, also with one that
// another thread is freeing. A free makes calls that use the handle or its children return first (one that
// waits or loads returns ORCD_STATUS_CANCELLED, at the latest a step of the engine later), and then frees.
// Each model has an engine thread of its own. "Waits:" at a function says what for; the others return at
// once.
//
// FORK. Handles belong to the process that made them. In a child of fork() every call with a handle, and
// orcd_context_create, is ORCD_STATUS_WRONG_STATE if the parent had made a context. After exec all is new.
//
// EXIT. A process may exit, or unload the library, with everything in use: it is ended in order. Calls from
// then on are ORCD_STATUS_INVALID_HANDLE, and orcd_context_create is ORCD_STATUS_SHUTTING_DOWN.
//
// STRUCTS. Each begins with struct_size, which the caller sets to sizeof(the struct). The library reads and
// writes that many bytes and no more, in whole units of 8: a caller compiled against an older, shorter
// struct gets the defaults of fields that it does not know. Options that are longer than the library knows
// must be zero there; results that are longer are zeroed there. A struct_size of 0, over
// ORCD_MAX_STRUCT_SIZE, or no multiple of 4 is ORCD_STATUS_INVALID_ARGUMENT. Fields called reserved must be
// 0.
//
// TEXT. UTF-8. Buffers take the text and a NUL behind it: capacity counts the NUL, lengths do not. If the
// capacity is too small, the call is ORCD_STATUS_BUFFER_TOO_SMALL, the length is written, nothing is lost,
// and the call can be repeated. NULL with capacity 0 asks for the length. Texts inside result structs end
// in a NUL and are cut to fit, at a whole character.
//
// UNITS. Sizes are bytes (_bytes), times milliseconds (_ms), lengths of prompts and answers tokens
// (_tokens).
//
// VERSIONS. Symbols carry the version orcd_0.1. Before 1.0 a new minor version may change this file.
#ifndef ORCD_ORCD_H
#define ORCD_ORCD_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ORCD_API __attribute__((visibility("default")))
#else
#define ORCD_API
#endif
#if !defined(__cplusplus)
#define ORCD_NOEXCEPT
#elif __cplusplus >= 201103L
#define ORCD_NOEXCEPT noexcept
#else
#define ORCD_NOEXCEPT throw()
#endif
#ifdef __cplusplus
extern "C" {
#endif

#define ORCD_VERSION_MAJOR 0
#define ORCD_VERSION_MINOR 1
#define ORCD_VERSION_PATCH 0

#define ORCD_MAX_STRUCT_SIZE 4096u
#define ORCD_WAIT_FOREVER UINT32_MAX
#define ORCD_NO_TOKEN (-1)

typedef struct orcd_context orcd_context;        // errors, devices, models
typedef struct orcd_model orcd_model;            // one GGUF model, loaded on one device, with its engine
typedef struct orcd_generation orcd_generation;  // one request and the stream of its tokens

// ---- Status and errors ----

// An integer and not an enum, so that a status of a later version is a value like any other.
typedef int32_t orcd_status;
enum {
  ORCD_STATUS_OK = 0,
  // The public codes of the worker (docs/WIRE.md), with the same meaning.
  ORCD_STATUS_INVALID_REQUEST = 1,    // what is asked for is out of range, or does not fit the context
  ORCD_STATUS_MODEL_LOAD_FAILED = 2,  // the file cannot be read, is damaged or not supported
  ORCD_STATUS_INSUFFICIENT_VRAM = 3,  // the model does not fit on the device or in the budget
  ORCD_STATUS_VRAM_OOM = 4,           // the prompt needs more KV cache than the model was given
  ORCD_STATUS_CUDA_ERROR = 5,         // a device cannot be used, or failed
  ORCD_STATUS_INFERENCE_TIMEOUT = 6,  // the generation took longer than its timeout_ms
  ORCD_STATUS_CANCELLED = 7,          // by orcd_generation_cancel, or because a parent was freed
  ORCD_STATUS_INTERNAL = 8,           // a fault of the library, the model or the machine
  ORCD_STATUS_UNAUTHORIZED = 9,       // 9 to 12 are the HTTP server's; this library does not return them
  ORCD_STATUS_NOT_FOUND = 10,
  ORCD_STATUS_METHOD_NOT_ALLOWED = 11,
  ORCD_STATUS_PAYLOAD_TOO_LARGE = 12,
  ORCD_STATUS_OVERLOADED = 13,     // max_queue generations wait already
  ORCD_STATUS_SHUTTING_DOWN = 14,  // the process is exiting, or the engine has stopped
  // Of this interface alone. END and NOT_READY are no failures.
  ORCD_STATUS_INVALID_ARGUMENT = 100,  // NULL, struct_size, unknown flags, an index out of range
  ORCD_STATUS_INVALID_HANDLE = 101,    // not a live handle of this kind
  ORCD_STATUS_WRONG_STATE = 102,       // the call cannot be made now: see the function
  ORCD_STATUS_BUFFER_TOO_SMALL = 103,  // see TEXT
  ORCD_STATUS_NOT_READY = 104,         // orcd_generation_next_token: none has come within timeout_ms
  ORCD_STATUS_END = 105,               // orcd_generation_next_token: the generation is complete
  ORCD_STATUS_OUT_OF_MEMORY = 106      // the process has no memory for the call itself
};

typedef struct orcd_error {
  uint32_t struct_size;
  orcd_status status;   // of the call that failed; ORCD_STATUS_OK if none has
  const char* message;  // what, with the values in parentheses; never NULL
  const char* hint;     // what to try, in the words of the worker's options; never NULL
  uint32_t retriable;   // 1: the same call may succeed later
  uint32_t reserved;
} orcd_error;

// The last call that failed on the calling thread; ORCD_STATUS_OK and empty texts if none has. END and
// NOT_READY are no failures. Calls that succeed leave the error as it is: ask right after the call that
// failed.
// context: NULL, or a context, live or not; with one, a failure that is known to concern another context is
// not reported.
// Lifetime: message and hint stay until the next failing call on this thread, or its end.
ORCD_API orcd_status orcd_last_error(const orcd_context* context, orcd_error* out_error) ORCD_NOEXCEPT;

// "ORCD_STATUS_VRAM_OOM" and the like, a constant of the library. A number that is no status is
// INVALID_ARGUMENT and gives "ORCD_STATUS_UNKNOWN".
ORCD_API orcd_status orcd_status_name(orcd_status status, const char** out_name) ORCD_NOEXCEPT;

typedef struct orcd_version {
  uint32_t struct_size;
  uint32_t major, minor, patch;  // of the library that is loaded; the macros above are those of the header
  uint32_t numerics_version;     // equal numerics versions give equal bits (docs/NUMERICS.md)
  uint32_t reserved;
  const char* text;  // "0.1.0"; a constant of the library
} orcd_version;

// Version of the library that is loaded; the macros above are those of the header.
// Lifetime: text is a constant of the library.
ORCD_API orcd_status orcd_get_version(orcd_version* out_version) ORCD_NOEXCEPT;

// ---- Contexts ----

// Contexts know nothing of each other; one is enough for most programs.
// Ownership: the caller's, until orcd_context_destroy.
// Errors: SHUTTING_DOWN while the process exits.
ORCD_API orcd_status orcd_context_create(orcd_context** out_context) ORCD_NOEXCEPT;

// Ends and frees everything made from the context: loads that are under way, generations, models. On return
// their threads have ended and all memory of the devices is given back.
// Waits: for calls that use the context or what was made from it, at most about one step of each engine.
ORCD_API orcd_status orcd_context_destroy(orcd_context* context) ORCD_NOEXCEPT;

// ---- Devices and memory ----

// Devices are numbered 0 to count - 1: "cpu", then "cuda:0", "cuda:1", ..., also those that cannot be used.
// Models are given their device by name, so that an index never decides where a model goes.
ORCD_API orcd_status orcd_device_count(orcd_context* context, uint32_t* out_count) ORCD_NOEXCEPT;

typedef struct orcd_device_info {
  uint32_t struct_size;
  uint32_t usable;  // 0: `refusal` says why
  uint64_t total_bytes;
  uint64_t free_bytes;             // when asked
  uint64_t driver_overhead_bytes;  // context and code of the device's driver, beside every plan; 0 on the cpu
  uint32_t n_threads;              // cpu: threads that a model gets by default
  int32_t cuda_runtime_version;    // 13000; 0 on the cpu
  char name[32];                   // "cpu", "cuda:0": what orcd_model_options.device takes
  char isa[32];                    // "scalar", "avx2", "avx512"; "sm_90"
  char description[256];
  char refusal[512];
} orcd_device_info;

// Errors: INVALID_ARGUMENT if index >= count.
// Waits: on a GPU this and the next two open the device anew, which takes a moment.
ORCD_API orcd_status orcd_device_get_info(orcd_context* context, uint32_t index,
                                          orcd_device_info* out_info) ORCD_NOEXCEPT;

typedef struct orcd_device_memory {
  uint32_t struct_size;
  uint32_t n_models;  // of this context on this device
  uint64_t total_bytes;
  uint64_t free_bytes;      // now
  uint64_t reserved_bytes;  // of the free bytes, what a plan leaves to the driver
  uint64_t models_bytes;    // held by the models of this context on this device
} orcd_device_memory;

// Errors: INVALID_ARGUMENT if index >= count; CUDA_ERROR if the device cannot be used.
ORCD_API orcd_status orcd_device_get_memory(orcd_context* context, uint32_t index,
                                            orcd_device_memory* out_memory) ORCD_NOEXCEPT;

typedef struct orcd_device_health {
  uint32_t struct_size;
  uint32_t healthy;   // 1: the device opens, and no model of this context has lost it
  uint32_t n_models;  // of this context on this device
  uint32_t n_failed;  // of them, those that take no more work
  char reason[512];   // why it is not healthy; ""
} orcd_device_health;

// A device that cannot be used is an answer (healthy == 0), not a failure.
// Errors: INVALID_ARGUMENT if index >= count.
ORCD_API orcd_status orcd_device_get_health(orcd_context* context, uint32_t index,
                                            orcd_device_health* out_health) ORCD_NOEXCEPT;

typedef struct orcd_process_memory {
  uint32_t struct_size;
  uint32_t n_models;        // of all contexts
  uint64_t resident_bytes;  // this and the next two as the system counts
  uint64_t peak_resident_bytes;
  uint64_t virtual_bytes;
  uint64_t device_bytes;       // that device allocators have handed out and not got back; 0 without models
  uint64_t pinned_host_bytes;  // the same of pinned memory for copies
} orcd_process_memory;

// Of this process and all its contexts.
ORCD_API orcd_status orcd_process_get_memory(orcd_context* context,
                                             orcd_process_memory* out_memory) ORCD_NOEXCEPT;

// ---- Models ----

// 0 and NULL stand for the default in parentheses; path and device are required.
typedef struct orcd_model_options {
  uint32_t struct_size;
  uint32_t n_threads;          // cpu (one for each core that the process may use)
  const char* path;            // of the GGUF file; of the first one of a split model
  const char* device;          // "cpu", "cuda:0". There is no default device
  const char* tokenizer_path;  // of a tokenizer.json (the model's own vocabulary)
  uint32_t context_tokens;     // prompt and answer of a generation (what it was made for, or what fits)
  uint32_t n_slots;            // generations computed at once (4)
  uint32_t batch_tokens;       // tokens in one step, all generations together (0: what suits the device)
  uint32_t max_queue;          // generations waiting for a slot; one more is OVERLOADED (256)
  uint64_t budget_bytes;       // what the model may take of the device (what is free)
  uint64_t kv_cache_bytes;     // what of it holds keys and values (what context and slots need)
} orcd_model_options;

// Writes the defaults of a struct of struct_size bytes, and struct_size itself.
ORCD_API orcd_status orcd_model_options_init(orcd_model_options* options, uint32_t struct_size) ORCD_NOEXCEPT;

typedef struct orcd_plan {
  uint32_t struct_size;
  uint32_t fits;
  uint64_t total_bytes;      // that loading takes on the device: exactly, when it fits
  uint64_t available_bytes;  // the budget, or what is free and not reserved
  uint64_t free_bytes;       // on the device
  uint64_t weights_bytes;    // total_bytes by category, from here ...
  uint64_t kv_bytes;
  uint64_t activations_bytes;
  uint64_t sampling_bytes;
  uint64_t staging_bytes;
  uint64_t graphs_bytes;        // ... to here
  uint64_t pinned_host_bytes;   // beside it, once loaded
  uint32_t max_context_tokens;  // the longest context of one generation that fits; 0 if none does
  uint32_t context_tokens;      // what this plan is for, with every default resolved
  uint32_t n_slots;
  uint32_t n_kv_pages;
} orcd_plan;

// What orcd_model_load would take, to the byte. Reads the file's header; nothing is allocated on the
// device. A model that does not fit is an answer (fits == 0), not a failure.
// Errors: MODEL_LOAD_FAILED; INVALID_REQUEST (a limit that makes no sense, an unknown device); CUDA_ERROR.
// Waits: for the file; on a GPU also for the device to open.
ORCD_API orcd_status orcd_model_plan(orcd_context* context, const orcd_model_options* options,
                                     orcd_plan* out_plan) ORCD_NOEXCEPT;

// Loads a model and starts its engine thread.
// Ownership: the caller's, until orcd_model_unload or the end of the context.
// Errors: those of orcd_model_plan; INSUFFICIENT_VRAM before the first byte moves; CANCELLED if the context
// is destroyed meanwhile. A failed load leaves nothing behind.
// Waits: until the model is ready.
ORCD_API orcd_status orcd_model_load(orcd_context* context, const orcd_model_options* options,
                                     orcd_model** out_model) ORCD_NOEXCEPT;

// Cancels and frees the model's generations, ends its engine thread, gives all its memory back.
// Waits: for calls that use the model or its generations, at most about one step of the engine.
ORCD_API orcd_status orcd_model_unload(orcd_model* model) ORCD_NOEXCEPT;

typedef struct orcd_model_info {
  uint32_t struct_size;
  uint32_t vocab_size;
  uint32_t trained_context_tokens;  // what the model was made for
  uint32_t context_tokens;          // what one generation has here, prompt and answer together
  uint32_t n_slots;
  uint32_t n_kv_pages;  // of 64 tokens, all generations together
  int32_t bos_token;    // ORCD_NO_TOKEN if the vocabulary has none
  int32_t eos_token;
  char digest[40];          // of the weights, hexadecimal: equal digests, equal weights
  char device[32];          // "cpu", "cuda:0"
  char architecture[32];    // "llama"
  char quant_kind[32];      // "Q4_K_M"
  char tokenizer_kind[32];  // "gguf-bpe", "gguf-spm", "hf-json"
  char name[256];           // of the file, without folder and extension
} orcd_model_info;

// Constant while the model is loaded.
ORCD_API orcd_status orcd_model_get_info(orcd_model* model, orcd_model_info* out_info) ORCD_NOEXCEPT;

typedef struct orcd_model_memory {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t total_bytes;    // allocated on the device, and constant while the model is loaded
  uint64_t planned_bytes;  // by the plan: equal to total_bytes
  uint64_t weights_bytes;  // total_bytes by category, from here ...
  uint64_t kv_bytes;
  uint64_t activations_bytes;
  uint64_t sampling_bytes;
  uint64_t staging_bytes;
  uint64_t graphs_bytes;       // ... to here
  uint64_t pinned_host_bytes;  // beside it
} orcd_model_memory;

// As the device's allocator counts.
ORCD_API orcd_status orcd_model_get_memory(orcd_model* model, orcd_model_memory* out_memory) ORCD_NOEXCEPT;

typedef struct orcd_model_health {
  uint32_t struct_size;
  uint32_t healthy;  // 0: takes no new generations; unload it
  uint32_t n_running, n_waiting;
  uint64_t n_kv_pages_used;
  uint64_t n_tokens_generated;                 // since it was loaded
  uint64_t n_complete, n_failed, n_cancelled;  // generations
  char reason[512];                            // why it is not healthy; ""
} orcd_model_health;

// A snapshot; never waits for the engine.
ORCD_API orcd_status orcd_model_get_health(orcd_model* model, orcd_model_health* out_health) ORCD_NOEXCEPT;

typedef struct orcd_residency {
  uint32_t struct_size;
  uint32_t resident;  // 1: in memory of the right kind, and every byte as it was loaded
  uint64_t checked_bytes;
  char pointer_type[16];     // "host", "device": where the weights are
  char digest[40];           // of the weights, computed now where they lie; hexadecimal
  char expected_digest[40];  // of the weights as they were loaded
  char first_mismatch[256];  // the first tensor that differs; ""
} orcd_residency;

// Computes the digest of the weights between two steps of the engine. What does not hold is an answer
// (resident == 0); from then on the model is not healthy and takes no new generations.
// Errors: CUDA_ERROR if the device failed; SHUTTING_DOWN if the engine has stopped.
// Waits: for the engine, and about as long as one token takes.
ORCD_API orcd_status orcd_model_check_residency(orcd_model* model,
                                                orcd_residency* out_residency) ORCD_NOEXCEPT;

// ---- Text and tokens ----

#define ORCD_MAX_TEXT_BYTES ((size_t)1 << 28)  // of one text; more is INVALID_ARGUMENT

enum {
  ORCD_TOKENIZE_BOS = 1,     // the vocabulary's first token in front, if the vocabulary says so
  ORCD_TOKENIZE_SPECIAL = 2  // special tokens written in the text ("<|im_start|>") become their ids
};

// text: text_bytes bytes, any bytes, with or without a NUL at the end. flags: ORCD_TOKENIZE_*.
// tokens: room for `capacity` ids; NULL with capacity 0 asks for their number. *out_n_tokens: how many
// there are, or with BUFFER_TOO_SMALL would be.
// Errors: BUFFER_TOO_SMALL.
ORCD_API orcd_status orcd_tokenize(orcd_model* model, const char* text, size_t text_bytes, uint32_t flags,
                                   int32_t* tokens, size_t capacity, size_t* out_n_tokens) ORCD_NOEXCEPT;

enum { ORCD_DETOKENIZE_SPECIAL = 1 };  // control tokens appear as they are written, otherwise not at all

// The bytes of the tokens, exactly: of a character that the tokens hold a part of, that part, so the text
// need not be valid UTF-8. flags: ORCD_DETOKENIZE_*. text, capacity, *out_text_bytes: see TEXT.
// Errors: BUFFER_TOO_SMALL; INVALID_REQUEST for an id that is not in the vocabulary.
ORCD_API orcd_status orcd_detokenize(orcd_model* model, const int32_t* tokens, size_t n_tokens,
                                     uint32_t flags, char* text, size_t capacity,
                                     size_t* out_text_bytes) ORCD_NOEXCEPT;

// ---- Generations ----

enum {
  ORCD_GENERATE_IGNORE_END = 1,   // go on after tokens that end an answer
  ORCD_GENERATE_SPECIAL_TEXT = 2  // control tokens appear in the text
};

// The defaults in parentheses are what orcd_generation_options_init writes; 0 is a value like any other
// here.
typedef struct orcd_generation_options {
  uint32_t struct_size;
  uint32_t max_tokens;       // at least 1; the context ends it too (2048)
  float temperature;         // 0..2; 0 takes the most likely token (1)
  float top_p;               // 0..1; 1 is off (1)
  float min_p;               // 0..1; 0 is off (0)
  float repetition_penalty;  // 0..2; 1 is off (1)
  uint32_t top_k;            // 0..vocab_size; 0 is off (0)
  uint32_t has_seed;         // 0: a random seed, told by orcd_generation_get_result (0)
  uint64_t seed;             // same request, same seed, same tokens (0)
  const char* const* stop;   // n_stop texts that end the answer, no part of it; ignored if n_stop is 0
  uint32_t n_stop;           // at most 4, of at most 32 tokens each (0)
  uint32_t timeout_ms;       // from the start; 0 is none (0)
  uint32_t flags;            // ORCD_GENERATE_* (0)
  uint32_t reserved;
} orcd_generation_options;

// Writes the defaults of a struct of struct_size bytes, and struct_size itself.
ORCD_API orcd_status orcd_generation_options_init(orcd_generation_options* options,
                                                  uint32_t struct_size) ORCD_NOEXCEPT;

// Queues a generation. prompt: prompt_bytes bytes; special tokens written in it become their ids, and the
// vocabulary's first token is put in front if the vocabulary says so, as POST /execute does. Unread tokens
// are kept, at most max_tokens of them, and hold nobody up: the generation runs to its end and gives slot
// and KV cache back whether it is read or not.
// Ownership: the caller's, until orcd_generation_free or the end of the model or context.
// Errors: INVALID_REQUEST, naming everything that is wrong with prompt and options; VRAM_OOM if it could
// never fit; OVERLOADED; CUDA_ERROR or INTERNAL if the model is not healthy.
ORCD_API orcd_status orcd_generation_start(orcd_model* model, const char* prompt, size_t prompt_bytes,
                                           const orcd_generation_options* options,
                                           orcd_generation** out_generation) ORCD_NOEXCEPT;

// The same with the prompt as ids, taken as they are; INVALID_REQUEST for one that is not in the
// vocabulary.
ORCD_API orcd_status orcd_generation_start_tokens(orcd_model* model, const int32_t* prompt_tokens,
                                                  size_t n_prompt_tokens,
                                                  const orcd_generation_options* options,
                                                  orcd_generation** out_generation) ORCD_NOEXCEPT;

typedef struct orcd_token {
  uint32_t struct_size;
  int32_t id;      // ORCD_NO_TOKEN: text that was held back, for a stop text or a character that did not come
  uint32_t index;  // 0, 1, ...: tokens before this one
  uint32_t reserved;
} orcd_token;

// The next token, in order. text gets whole UTF-8, and may be empty: a token can lie inside a character, or
// be held back while it could become a stop text. All texts one after the other are the answer. Several
// threads may read one generation: each token goes to one of them.
// Errors: NOT_READY if none has come within timeout_ms. END after the last one, again and again.
// BUFFER_TOO_SMALL: the same token comes again. A generation that failed gives its tokens so far and then
// its error, again and again: CANCELLED, INFERENCE_TIMEOUT, CUDA_ERROR, INTERNAL.
// Waits: at most timeout_ms; 0 is not at all, ORCD_WAIT_FOREVER without limit.
ORCD_API orcd_status orcd_generation_next_token(orcd_generation* generation, uint32_t timeout_ms,
                                                orcd_token* out_token, char* text, size_t capacity,
                                                size_t* out_text_bytes) ORCD_NOEXCEPT;

// Ends the generation within a step of the engine. Idempotent, and without effect on one that is complete.
// Tokens that were made before can still be read; then comes CANCELLED.
ORCD_API orcd_status orcd_generation_cancel(orcd_generation* generation) ORCD_NOEXCEPT;

enum {
  ORCD_STOP_EOS = 0,         // the model ended its answer
  ORCD_STOP_MAX_TOKENS = 1,  // as many tokens as were asked for
  ORCD_STOP_TEXT = 2,        // one of the stop texts came
  ORCD_STOP_CONTEXT = 3      // the context, or the KV cache, is full
};

typedef struct orcd_generation_result {
  uint32_t struct_size;
  uint32_t stop_reason;  // ORCD_STOP_*
  uint32_t n_prompt_tokens;
  uint32_t n_tokens;  // generated
  uint64_t seed;
  double queue_ms;        // from start to the first step
  double prefill_ms;      // from there to the first token
  double first_token_ms;  // from start to the first token
  double decode_ms;       // from the first token to the last
  uint32_t numerics_version;
  uint32_t reserved;
  char model_digest[40];   // hexadecimal
  char logits_digest[40];  // of every logit that a token was drawn from: same request, same digest
  char stop_text[256];     // the stop text that came; ""
} orcd_generation_result;

// How a complete generation went.
// Errors: WRONG_STATE until orcd_generation_next_token has said END; its error if it failed.
ORCD_API orcd_status orcd_generation_get_result(orcd_generation* generation,
                                                orcd_generation_result* out_result) ORCD_NOEXCEPT;

// Cancels it if it runs, and frees it.
// Waits: for calls that use it; one that waits for a token returns CANCELLED.
ORCD_API orcd_status orcd_generation_free(orcd_generation* generation) ORCD_NOEXCEPT;

#ifdef __cplusplus
}
#endif
#endif

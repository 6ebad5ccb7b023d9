/* The C interface of a backend: a library of its own that runs whole programs on another device.
 *
 * A backend never sees JavaScript, files or errors of programs: the addon has loaded and validated a program (every index,
 * shape, dtype and attribute) before it describes it here. Inputs and outputs of a run are host memory; constants and packed
 * weights are host memory too, which the backend mirrors on its device once: equal ids are one mirror for all programs, kept
 * as long as a loaded program names it. A mirror of a constant that kernels write (a cache) is never copied back.
 *
 * Every function that can fail returns 0 (or NULL) and fills the error. No exception crosses this interface. Calls for one
 * device come from one thread at a time.
 */
#ifndef SWITCHYARD_BACKEND_H
#define SWITCHYARD_BACKEND_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SY_BACKEND_ABI 1
#define SY_MAX_RANK 8

typedef struct sy_error {
  char code[32];     /* "ERR_DEVICE", "ERR_OUT_OF_MEMORY", "ERR_UNSUPPORTED", "ERR_ABORTED", or a kernel's own code */
  char message[512]; /* "[where] got …, expected …" */
  char hint[256];
} sy_error;

/* The numbers of docs/program-format.md. */
enum { SY_INPUT = 0, SY_CONSTANT = 1, SY_ARENA = 2, SY_OUTPUT = 3, SY_WEIGHT = 4 };

typedef struct sy_operand {
  int32_t kind;
  int32_t dtype;  /* of types.h */
  int64_t index;  /* within the kind */
  int64_t offset; /* arena: bytes from its start, a multiple of 64 */
  int32_t rank;
  int32_t written; /* some kernel writes this input or constant */
  int64_t dims[SY_MAX_RANK];
} sy_operand;

typedef struct sy_attribute {
  int64_t i; /* int; of a run-time integer, its value at load */
  double f;
  const int64_t* ints;
  int64_t count;
  int32_t slot; /* the run-time integer that gives `i`; -1: none */
} sy_attribute;

typedef struct sy_instruction {
  const char* kernel;
  const int32_t* in; /* operand numbers; -1: absent */
  int32_t n_in;
  const int32_t* out;
  int32_t n_out;
  const sy_attribute* attrs; /* in the order of the kernel's signature (docs/kernels.md) */
  int32_t n_attrs;
} sy_instruction;

typedef struct sy_constant {
  const void* data;
  int64_t bytes;
  uint64_t id;
} sy_constant;

/* A packed weight; formats/pack.h describes the bytes of a panel. */
typedef struct sy_weight {
  const void* data;
  int64_t bytes;         /* of the memory behind `data`, shared by repeated experts */
  int64_t expert_stride; /* bytes; 0: all experts are one */
  int64_t panel_bytes;
  int32_t format; /* of formats/format.h */
  int64_t experts, rows, columns;
  uint64_t id;
} sy_weight;

typedef struct sy_program {
  const sy_operand* operands;
  int32_t n_operands;
  const sy_instruction* instructions;
  int32_t n_instructions;
  const sy_constant* constants;
  int32_t n_constants;
  const sy_weight* weights;
  int32_t n_weights;
  const int64_t* input_bytes;
  int32_t n_inputs;
  const int64_t* output_bytes;
  int32_t n_outputs;
  int32_t n_ints;
  int64_t arena_bytes;
} sy_program;

typedef struct sy_run {
  const void* const* inputs;
  void* const* outputs;
  const int64_t* ints;
  double* times;        /* n_instructions durations in microseconds are wanted; NULL: no */
} sy_run;

typedef struct sy_device_info {
  char name[128];
  int64_t memory_bytes, free_bytes;
  int32_t compute_major, compute_minor, multiprocessors;
} sy_device_info;

typedef struct sy_backend {
  uint32_t abi; /* SY_BACKEND_ABI */
  const char* name;
  int32_t (*device_count)(sy_error*); /* 0 with an error: none that works */
  void* (*open)(int32_t index, sy_error*);
  void (*close)(void* device);
  int32_t (*info)(void* device, sy_device_info*, sy_error*);
  int32_t (*supports)(const char* kernel); /* whether load() knows the kernel */
  void* (*load)(void* device, const sy_program*, sy_error*); /* copies what it needs of the description */
  void (*unload)(void* device, void* program);
  int32_t (*run)(void* device, void* program, const sy_run*, sy_error*); /* outputs are written when it returns */
} sy_backend;

/* The one symbol that a backend library exports. */
typedef const sy_backend* (*sy_backend_entry_fn)(void);
#define SY_BACKEND_ENTRY "switchyard_backend"

#ifdef __cplusplus
}
#endif
#endif

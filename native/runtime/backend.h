// The C interface of a backend: a library of its own, loaded at run time, that holds memory of a device and runs programs on
// it. The addon has checked a program before (runtime/program.h): counts, types, shapes, sizes and places are right; only
// values (indices, offsets) are the backend's to check. Functions that can fail fill an SyStatus; none throws, none ends the
// process. Calls for one device come from any thread, those for one program from one thread at a time.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SWITCHYARD_BACKEND_VERSION 1
#define SWITCHYARD_ABSENT UINT32_MAX

typedef struct SyDevice SyDevice;
typedef struct SyProgram SyProgram;

// 0: fine. Else 1 + the number of an ErrorCode (runtime/error.h), and what messages say.
typedef struct SyStatus {
  int32_t code;
  char message[480];
} SyStatus;

typedef struct SyDeviceInfo {
  char name[256];
  int64_t memory, free;  // bytes
  int32_t multiprocessors;
  int32_t capability;    // 10 · major + minor
} SyDeviceInfo;

// What the operands of a program are (Program::Kind).
typedef enum SyKind { SY_INPUT = 0, SY_CONSTANT = 1, SY_ARENA = 2, SY_OUTPUT = 3, SY_WEIGHT = 4 } SyKind;

typedef struct SyOperand {
  int32_t kind;    // SyKind
  uint32_t index;  // of inputs and outputs: which
  int64_t offset;  // of intermediates: bytes within the arena
  int64_t bytes;
  int32_t dtype, rank;
  int64_t dims[8];
  // Of constants and weights: device memory. One without lies with the host, and there run the instructions that read it.
  const void* data;
  // Of weights, whose bytes are panels (formats/pack.h); expert_stride is 0 where all experts are the same bytes.
  int32_t format;
  int64_t experts, rows, columns, expert_stride;
} SyOperand;

typedef struct SyAttribute {
  int64_t i;
  double f;
  const int64_t* ints;
  int64_t count;
  uint32_t slot;  // of `ints` of a run, where each run brings the value of i; else SWITCHYARD_ABSENT
} SyAttribute;

typedef struct SyInstruction {
  const char* kernel;
  const uint32_t *in, *out;  // numbers of operands; SWITCHYARD_ABSENT where an optional one is absent
  uint32_t ins, outs, attributes;
  const SyAttribute* attribute;
} SyInstruction;

// Runs an instruction that the backend has no kernel for, or whose weights or constants lie with the host. in and out: host
// memory, one pointer an operand, null for weights and what lies with the host.
// Called from a thread of the driver while the run waits in its order; it must not call the backend.
typedef void (*SyHostRun)(void* host, uint32_t instruction, void* const* in, void* const* out, SyStatus* status);

typedef struct SyProgramSource {
  const SyOperand* operands;
  const SyInstruction* instructions;
  uint32_t operand_count, instruction_count;
  int64_t arena_bytes;
  uint32_t ints;
  SyHostRun host_run;
  void* host;
} SyProgramSource;

typedef struct SyRun {
  void* const* inputs;
  void* const* outputs;
  const int64_t* ints;
  // Not null: two numbers an instruction, microseconds from the run's begin: start and duration.
  double* trace;
} SyRun;

typedef struct SyBackend {
  uint32_t version;
  const char* name;
  // Throws nothing, needs no driver: a machine without a device that works fails with one clear sentence.
  SyDevice* (*open)(int32_t ordinal, SyStatus* status);
  void (*close)(SyDevice*);
  void (*info)(SyDevice*, SyDeviceInfo*, SyStatus*);
  // Names of the kernels, in no order.
  const char* const* (*kernels)(int64_t* count);
  void* (*allocate)(SyDevice*, int64_t bytes, SyStatus*);
  void (*release)(SyDevice*, void* memory);
  // In the order of the calls with runs of the device; when they return, the host's memory is the caller's again, and what
  // download() fills is there.
  void (*upload)(SyDevice*, void* to, const void* from, int64_t bytes, SyStatus*);
  void (*download)(SyDevice*, void* to, const void* from, int64_t bytes, SyStatus*);
  void (*clear)(SyDevice*, void* to, int64_t bytes, SyStatus*);
  // Copies what it needs of the source; constants, weights and `host` must outlive the program.
  SyProgram* (*load)(SyDevice*, const SyProgramSource*, SyStatus*);
  void (*unload)(SyProgram*);
  // Returns once the run has ended.
  void (*run)(SyProgram*, const SyRun*, SyStatus*);
  // Bytes of device memory that runs use beside what allocate() gave: arena, scratch, constants of kernels.
  int64_t (*working_memory)(SyDevice*);
} SyBackend;

// The one symbol of the library.
typedef const SyBackend* (*SyBackendFunction)(void);
#define SWITCHYARD_BACKEND_SYMBOL "switchyard_backend"

#ifdef __cplusplus
}
#endif

// node-addon-api, set up for environments that end while native code runs.
#pragma once

// A worker that is being ended refuses every call into JavaScript, and without this the wrapper of each function would
// end the whole process when it cannot throw.
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#include <napi.h>

// How the system schedules this library's threads.
#pragma once

namespace switchyard {

// Asks for long time slices for the calling thread. A thread that wakes with a shorter slice than the running one takes
// its core at once, so where kernels use every core the thread that runs JavaScript need not wait for the next tick.
// Linux 6.12 and newer (sched_setattr(2)); elsewhere it changes nothing.
void prefer_long_slices();

}  // namespace switchyard

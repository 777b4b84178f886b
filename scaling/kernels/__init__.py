"""Hand-written kernels in C++ and their building: `attention.cpp` for short sequences on a CPU."""

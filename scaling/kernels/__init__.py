"""Hand-written kernels in C++ for a CPU and their building: short attention, the LSTM's recurrence, cross-entropy."""

// A library that looks like NVML: what a test needs of it. FAKE_NVML_CASE: 0 counts, 1 has no
// counter, 2 has no device, 3 lacks a function.
namespace {
unsigned long long millijoules = 1000;
}

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
const char* nvmlErrorString(int status) { return status == 6 ? "Not Found" : "Other"; }
int nvmlSystemGetDriverVersion(char* text, unsigned) {
  text[0] = '9';
  text[1] = 0;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned, void** device) {
  *device = &millijoules;
  return FAKE_NVML_CASE == 2 ? 6 : 0;
}
int nvmlDeviceGetName(void*, char* text, unsigned) {
  text[0] = 'F';
  text[1] = 0;
  return 0;
}
#if FAKE_NVML_CASE != 3
int nvmlDeviceGetTotalEnergyConsumption(void*, unsigned long long* value) {
  *value = millijoules += 250;
  return FAKE_NVML_CASE == 1 ? 3 : 0;
}
#endif
}

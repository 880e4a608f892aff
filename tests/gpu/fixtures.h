// What the capture tests share: a folder that goes away, a tiny random model with a byte tokenizer,
// and running the program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/capture.h"

namespace stoat::test {

class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }
  // Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& content) const;

 private:
  std::string folder_;
};

struct TinyModel {
  std::uint32_t layers = 2, hidden = 64, q_heads = 4, kv_heads = 2, head_dim = 16,
                intermediate = 96;
  std::uint32_t vocab = 256, max_position = 4096;
  double query_gain = 4.0;  // larger: more peaked attention
  bool byte_tokenizer = true;
  bool nan_in_embedding = false;
};

// Writes config.json and model.safetensors (fp32, fixed seed) of a llama into `folder`/tiny;
// returns that folder.
std::string write_tiny_model(const TempFolder& folder, const TinyModel& model = {});

// Bytes that look like text; the same for the same length.
std::string sample_text(std::size_t length);

// Options for a tiny model and a prompt of `prompt_length` bytes, 12 new tokens, output
// "out.stoat".
CaptureOptions tiny_options(const TempFolder& folder, std::size_t prompt_length = 300);

// Runs a capture quietly in this process.
CaptureResult run_quietly(const CaptureOptions& options);

struct ProgramResult {
  int exit_code = -1;  // 128 + signal when killed
  std::string out, err;
};

// The path of stoat-capture.
std::string capture_program();
// Runs a program to its end.
ProgramResult run_program(const TempFolder& folder, const std::vector<std::string>& arguments);
// Starts it and returns its process id; output goes to "out.txt", "err.txt" of the folder.
int start_program(const TempFolder& folder, const std::vector<std::string>& arguments);
int wait_for(int pid);  // exit code, 128 + signal when killed

}  // namespace stoat::test

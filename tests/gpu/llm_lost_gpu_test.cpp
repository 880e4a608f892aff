// A device that fails in the middle of a recording: a kernel writes where nothing is, and from then
// on every call of this process fails. Every finished step is kept, and the message says how to go
// on. A program of its own, because the device is lost to it. Needs a device.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <thread>

#include "gpu/capture.h"
#include "gpu/llm/kernels.h"
#include "models/error.h"
#include "tests/gpu/llm_case.h"
#include "traces/reader.h"
#include "traces/writer.h"

namespace stoat {
namespace {

TEST(LostDevice, KeepsEveryFinishedStepAndSaysHowToGoOn) {
  const test::TempFolder folder;
  const test::TinyShape shape = test::device_shape("llama");
  test::write_model(folder.path(), shape, test::random_weights(shape, 5));
  std::string text;
  for (const std::int32_t token : test::some_tokens(50, shape.vocab))
    text += std::to_string(token) + "\n";
  test::write_text(folder / "ids.txt", text);
  CaptureOptions options;
  options.model = folder.path();
  options.tokens_files = {folder / "ids.txt"};
  options.budget = "16";
  options.max_new = 4000;
  options.ignore_eos = true;
  options.backend = Backend::kCuda;
  options.threads = 2;
  options.output = folder / "out.stoat";
  const std::string spool = options.output + ".spool";
  std::thread breaker([&] {
    std::error_code ignored;
    for (int i = 0; i < 60000; ++i) {
      if (std::filesystem::exists(spool) && std::filesystem::file_size(spool, ignored) > 20000)
        break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    gpu::launch_fill(reinterpret_cast<float*>(std::uintptr_t{4096}), 1024, 1, nullptr);
  });
  std::string message;
  try {
    capture(options, {-1, nullptr});
  } catch (const Error& error) {
    message = error.what();
    EXPECT_EQ(error.code(), ExitCode::kResource);
  }
  breaker.join();
  ASSERT_FALSE(message.empty()) << "the capture ended before the device failed";
  EXPECT_NE(message.find("steps are kept in " + spool), std::string::npos) << message;
  EXPECT_NE(message.find("stoat trace recover " + spool + " -o " + options.output),
            std::string::npos)
      << message;
  EXPECT_FALSE(std::filesystem::exists(options.output));
  std::uint64_t lost = 0;
  recover_spool(spool, options.output, &lost);
  EXPECT_EQ(lost, 0U);
  const TraceReader reader(options.output);
  const TraceRecords records = reader.read_all();
  EXPECT_GT(records.token_id.size(), 5U);
  EXPECT_LT(records.token_id.size(), 4000U);
  EXPECT_EQ(records.size(), records.token_id.size() * shape.layers * shape.heads);
}

}  // namespace
}  // namespace stoat

// The mechanics of the demo: its folder, its children, its lines of progress. What the steps are is
// in verb_demo.cpp.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace stoat::sim {

// The folder belongs to a demo: it is new, empty, or holds demo.json of an earlier one. Anything
// else is an Error. Creates it, with the folder "log" in it.
void claim_demo_folder(const std::string& folder);

// What a finished step was made from, in FOLDER/demo.json: step name -> key. A step with the same
// key need not run again.
class DemoState {
 public:
  explicit DemoState(std::string folder);  // reads demo.json; a damaged one counts as empty
  bool has(const std::string& step, const std::string& key) const;
  void set(const std::string& step, const std::string& key);  // and writes the file

 private:
  std::string path_;
  std::vector<std::pair<std::string, std::string>> steps_;
  void write() const;
};

// "[2/6] decode with prop ... 3.1 s" on stderr; on a terminal the seconds count up.
class DemoProgress {
 public:
  explicit DemoProgress(int steps);
  void begin(const std::string& what);
  void tick();  // call now and then
  void end(const std::string& how = {});
  double seconds() const;  // since the start

 private:
  int steps_, step_ = 0;
  bool terminal_;
  std::string what_;
  std::chrono::steady_clock::time_point start_, step_start_;
};

// Runs a program with its output going to `log`. Throws Error with the program's exit code, its
// last line and the log's name when it fails; kInterrupted when it was interrupted.
void run_logged(const std::vector<std::string>& arguments, const std::string& log,
                DemoProgress& progress);

}  // namespace stoat::sim

// Errors that people meet, and errors that are ours.
//
// The user's mistake throws stoat::Error: one line "place: what was found; what was expected; what
// to do". A broken promise inside the program throws stoat::Bug. Exit codes are the same for every
// verb (design section 7).
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace stoat {

enum class ExitCode : int {
  kOk = 0,
  kUsage = 2,         // usage or configuration
  kDamaged = 3,       // damaged input
  kResource = 4,      // disk, memory, GPU
  kPointsFailed = 5,  // some points of a sweep failed
  kInterrupted = 130  // interrupted and resumable
};

// Where in the user's input the mistake stands. line and column count from 1; 0 means "not known".
struct Place {
  std::string file;
  std::uint64_t line = 0;
  std::uint64_t column = 0;

  std::string text() const;  // "file:line:column", "file:line" or "file"
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

class Bug : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// "place: found; expected ...; remedy". Empty parts are left out.
Error usage_error(const Place& place, std::string_view found, std::string_view expected = {},
                  std::string_view remedy = {});
Error damaged_error(const Place& place, std::string_view found, std::string_view expected = {},
                    std::string_view remedy = {});
Error resource_error(const Place& place, std::string_view found, std::string_view expected = {},
                     std::string_view remedy = {});

// The nearest name by edit distance (at most a third of its length); empty when none is near.
std::string nearest_name(std::string_view found, const std::vector<std::string>& known);
// "did you mean 'channels'?" or "known: a, b, c".
std::string nearest_name_hint(std::string_view found, const std::vector<std::string>& known);

// Throws Bug with file and line when the condition does not hold; stays on in release builds.
#define STOAT_ENSURE(condition, text)                                                             \
  do {                                                                                            \
    if (!(condition)) {                                                                           \
      throw ::stoat::Bug(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " + (text) + \
                         " (" #condition " does not hold)");                                      \
    }                                                                                             \
  } while (false)

}  // namespace stoat

// The three standard streams of a program: results go to stdout, talk to stderr.
//
// A result that cannot be written is an error, whatever else went well. A message that cannot be
// written is not: no recording ends because somebody closed a terminal.
#pragma once

#include <string_view>

namespace stoat {

// Call first in main. Puts /dev/null where stdin, stdout or stderr are closed, so that no file of
// ours gets their number and receives their text (stdout then still fails when it is used).
void guard_standard_streams();

// Text to stderr. Never throws.
void say(std::string_view text);

// Text to stdout, flushed. Throws Error (resource) when it cannot be written; a reader that has
// gone away (`| head`) is no error where SIGPIPE is ignored.
void print_result(std::string_view text);

// What was printed to stdout by other means is there; errors as print_result.
void flush_results();

}  // namespace stoat

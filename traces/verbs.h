// The verbs of stoat-trace. Each takes parsed options, writes results to stdout and returns the
// exit code.
#pragma once

#include <cstdint>
#include <string>

#include "traces/export.h"
#include "traces/synth.h"

namespace stoat {

int verb_info(const std::string& path, bool json);
int verb_check(const std::string& path, std::size_t max_violations, bool json);
struct RecoverOptions {
  bool before_damage = false;  // keep the whole frames before a damaged one
  bool keep = false;           // leave the spool
  bool force = false;          // replace the output when it exists
};
int verb_recover(const std::string& spool, const std::string& out, const RecoverOptions& options,
                 bool json);
int verb_export(const std::string& path, const ExportOptions& options, const std::string& out,
                bool force, bool json);
int verb_synth(const SynthOptions& options, const std::string& out, bool force, bool json);
int verb_diff(const std::string& left, const std::string& right, std::size_t max_differences,
              bool json);

}  // namespace stoat

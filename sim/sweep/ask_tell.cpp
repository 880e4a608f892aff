// The line protocol.
#include "sim/sweep/ask_tell.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/files.h"
#include "models/streams.h"
#include "sim/sweep/html.h"
#include "sim/sweep/sweep_value.h"

namespace stoat::sim {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::size_t kMaxLine = std::size_t{1} << 16;

Json describe(const SweepSpec& spec) {
  Json axes = Json::object();
  for (const SweepAxis& axis : spec.axes) {
    Json each;
    if (axis.continuous) {
      each["low"] = axis.continuous->low;
      each["high"] = axis.continuous->high;
      each["log"] = axis.continuous->logarithmic;
      each["whole"] = axis.continuous->whole;
      each["unit"] = axis.continuous->unit;
    }
    for (const AxisValue& value : axis.values) each["values"].push_back(value.label);
    axes[axis.name] = std::move(each);
  }
  return Json{{"axes", axes}};
}

std::string value_text(const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() && std::isfinite(value.get<double>()))
    return number_text(value.get<double>());
  throw usage_error({}, "the value of '" + key + "' is " + value.dump(), "a text or a number");
}

// The sweep with one point: every key of the line on an axis of one value. A case axis is taken by
// its name: {"rival": "dense"}.
SweepSpec one_point(const SweepSpec& spec, const Json& set) {
  SweepSpec one = spec;
  one.axes.clear();
  one.sample.reset();
  const std::vector<std::string> known = all_sweep_keys();
  std::vector<std::string> taken;
  for (const auto& [key, value] : set.items()) {
    SweepAxis axis;
    axis.name = key;
    const std::string text = value_text(key, value);
    for (const SweepAxis& each : spec.axes) {
      if (each.name != key) continue;
      for (const AxisValue& choice : each.values) {
        if (choice.label == text) axis.values = {choice};
      }
    }
    if (axis.values.empty()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        throw usage_error({}, "unknown key '" + key + "'", "a key of the sweep or the accelerator",
                          nearest_name_hint(key, known));
      }
      axis.values = {{text, {{key, text}}}};
    }
    for (const KeyValue& each : axis.values[0].sets) taken.push_back(each.first);
    one.axes.push_back(std::move(axis));
  }
  if (one.axes.empty()) throw usage_error({}, "an empty set", "at least one key");
  std::erase_if(one.constants, [&](const KeyValue& each) {
    return std::find(taken.begin(), taken.end(), each.first) != taken.end();
  });
  return one;
}

class Session {
 public:
  Session(const SweepFolder& folder, const SweepSpec& spec, const SweepRunOptions& options)
      : spec_(spec), options_(options), lock_(folder), state_(folder.state()) {}

  Json answer(const Json& question) {
    if (question.contains("describe")) return describe(spec_);
    Json reply;
    if (question.contains("id")) reply["id"] = question.at("id");
    if (!question.contains("set") || !question.at("set").is_object()) {
      reply["status"] = "invalid";
      reply["reason"] = "no set; expected {\"set\": {\"key\": value, ...}} or {\"describe\": true}";
      return reply;
    }
    try {
      const SweepPlan plan(one_point(spec_, question.at("set")), library_);
      const PlannedPoint& point = plan.points().front();
      const std::string body = result_of(point);
      const auto row = result_row(plan, point, read_point_result(body));
      reply["status"] = "done";
      for (const auto& [name, value] : row) {
        const auto number = split_number(value);
        if (number && number->unit.empty()) {
          reply["row"][name] = number->number;
        } else {
          reply["row"][name] = value;
        }
      }
      keep(row);
    } catch (const Error& error) {
      const bool usage = error.code() == ExitCode::kUsage;
      reply["status"] = usage ? "invalid" : "failed";
      reply["reason"] = error.what();
      failed_ = failed_ || !usage;
    }
    return reply;
  }

  std::string csv() const { return names_ + rows_; }
  bool failed() const { return failed_; }

 private:
  std::string result_of(const PlannedPoint& point) {
    if (const auto found = state_.find(point.sim_key)) return *found;
    TaskOutcome outcome;
    const std::atomic<bool> stop{false};
    run_workers(
        1, options_.limits, [&](std::uint64_t) { return run_point(point); },
        [&](std::uint64_t, TaskOutcome&& each) { outcome = std::move(each); }, [] {}, stop);
    if (!outcome.good) {
      throw Error(outcome.usage ? ExitCode::kUsage : ExitCode::kPointsFailed, outcome.text);
    }
    state_.put(point.sim_key, outcome.text);
    return outcome.text;
  }

  // Rows of one header; a line with other keys starts a new one.
  void keep(const std::vector<std::pair<std::string, std::string>>& row) {
    std::string names, values;
    for (const auto& [name, value] : row) {
      names += (names.empty() ? "" : ",") + csv_cell(name);
      values += (values.empty() ? "" : ",") + csv_cell(value);
    }
    if (names_.empty()) names_ = names + "\n";
    if (names_ == names + "\n") rows_ += values + "\n";
  }

  const SweepSpec& spec_;
  const SweepRunOptions& options_;
  FolderLock lock_;
  ResultStore state_;
  std::shared_ptr<TraceLibrary> library_ = std::make_shared<TraceLibrary>();
  std::string names_, rows_;
  bool failed_ = false;
};

}  // namespace

ExitCode ask_tell(const SweepFolder& folder, const SweepSpec& spec,
                  const SweepRunOptions& options) {
  Session session(folder, spec, options);
  std::string line;
  while (std::getline(std::cin, line)) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Json reply;
    if (line.size() > kMaxLine) {
      reply = {{"status", "invalid"}, {"reason", "a line of more than 65536 bytes"}};
    } else {
      const Json question = Json::parse(line, nullptr, false);
      reply = question.is_object()
                  ? session.answer(question)
                  : Json{{"status", "invalid"}, {"reason", "not a JSON object on one line"}};
    }
    print_result(reply.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  if (!session.csv().empty()) write_file_whole(folder.path() + "/asked.csv", session.csv());
  return session.failed() ? ExitCode::kPointsFailed : ExitCode::kOk;
}

}  // namespace stoat::sim

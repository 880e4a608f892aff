// sbatch and squeue, called as programs.
#include "sim/sweep/slurm.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/data_path.h"
#include "models/files.h"

namespace stoat::sim {
namespace {

std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

struct Answer {
  int code = -1;
  std::string text;
};

Answer ask(const std::string& command) {
  Answer answer;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return answer;
  std::array<char, 4096> buffer{};
  std::size_t n = 0;
  while ((n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0)
    answer.text.append(buffer.data(), n);
  const int status = ::pclose(pipe);
  answer.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

std::string header(const SlurmOptions& options, const std::string& name, const std::string& log) {
  std::string text = "#!/bin/bash\n#SBATCH --job-name=" + name +
                     "\n#SBATCH --requeue\n#SBATCH --open-mode=append\n#SBATCH --output=" + log +
                     "\n";
  if (!options.partition.empty()) text += "#SBATCH --partition=" + options.partition + "\n";
  return text;
}

// Answers of sbatch --parsable: "123" or "123;cluster".
std::string submit(const std::string& arguments) {
  const Answer answer = ask("sbatch --parsable " + arguments + " 2>&1");
  std::string job = answer.text.substr(0, answer.text.find_first_of(";\n"));
  if (answer.code != 0 || job.empty() || job.find_first_not_of("0123456789") != std::string::npos) {
    std::string said = answer.text.substr(0, answer.text.find('\n'));
    throw resource_error({}, "sbatch refused: " + said, "a Slurm that takes jobs",
                         "the scripts are written: submit them by hand, or --dry-run");
  }
  return job;
}

}  // namespace

SlurmJobs submit_slurm(const SweepFolder& folder, const SweepPlan& plan,
                       const SlurmOptions& options) {
  if (options.engine != "slurm") {
    throw usage_error({}, "--engine is '" + options.engine + "'", "slurm",
                      "any other engine: run `stoat sweep run DIR --shard I/N` for every I");
  }
  SlurmJobs jobs;
  const auto most = static_cast<std::uint32_t>(plan.simulations().size());
  jobs.shards = std::min(options.shards, std::max(1U, most));
  const std::string dir = absolute(folder.path());
  const std::string scripts = dir + "/slurm";
  make_folders(scripts);
  make_folders(dir + "/shards");
  const std::string program = program_folder() + "/stoat";

  std::string array = header(options, "stoat-" + plan.spec().name, scripts + "/%A_%a.log");
  array += "#SBATCH --array=0-" + std::to_string(jobs.shards - 1);
  if (options.at_once != 0) array += "%" + std::to_string(options.at_once);
  array += "\n#SBATCH --cpus-per-task=" + std::to_string(std::max(1U, options.jobs)) + "\n";
  if (!options.time.empty()) array += "#SBATCH --time=" + options.time + "\n";
  if (!options.memory.empty()) array += "#SBATCH --mem=" + options.memory + "\n";
  array +=
      "# SIGTERM comes to stoat itself, half a minute before the limit: it gives its points back.\n"
      "#SBATCH --signal=B:TERM@30\n";
  array += "exec " + shell_word(program) + " sweep run " + shell_word(dir) +
           " --shard \"$SLURM_ARRAY_TASK_ID\"/" + std::to_string(jobs.shards) + " --jobs " +
           std::to_string(std::max(1U, options.jobs));
  if (!options.point_memory.empty()) array += " --point-memory " + shell_word(options.point_memory);
  if (!options.point_time.empty()) array += " --point-time " + shell_word(options.point_time);
  array += "\n";
  jobs.array_script = scripts + "/array.sh";
  write_file_whole(jobs.array_script, array);

  const std::string merge =
      header(options, "stoat-merge-" + plan.spec().name, scripts + "/merge.log") + "exec " +
      shell_word(program) + " sweep merge " + shell_word(dir) + "\n";
  jobs.merge_script = scripts + "/merge.sh";
  write_file_whole(jobs.merge_script, merge);

  if (options.dry_run) {
    jobs.text = "written, not submitted: sbatch " + jobs.array_script +
                "\n  then: sbatch --dependency=afterany:JOB " + jobs.merge_script + "\n";
    return jobs;
  }
  jobs.array_job = submit(shell_word(jobs.array_script));
  jobs.merge_job =
      submit("--dependency=afterany:" + jobs.array_job + " " + shell_word(jobs.merge_script));
  const nlohmann::json state{{"array", jobs.array_job}, {"merge", jobs.merge_job}};
  write_file_whole(scripts + "/jobs.json", state.dump(2) + "\n");
  jobs.text = "array " + jobs.array_job + " (" + std::to_string(jobs.shards) + " tasks, " +
              std::to_string(plan.simulations().size()) + " simulations), then merge " +
              jobs.merge_job + "\nfollow it: stoat sweep watch " + folder.path() + "\n";
  return jobs;
}

std::vector<QueueEntry> slurm_queue(const SweepFolder& folder) {
  std::vector<QueueEntry> entries;
  std::error_code failure;
  const std::string path = folder.slurm() + "/jobs.json";
  if (!std::filesystem::exists(path, failure)) return entries;
  std::string ids;
  try {
    const auto json = nlohmann::json::parse(read_file(path, 65536));
    ids = json.at("array").get<std::string>() + "," + json.at("merge").get<std::string>();
  } catch (const nlohmann::json::exception&) {
    return entries;
  }
  if (ids.find_first_not_of("0123456789,") != std::string::npos) return entries;
  const Answer answer =
      ask("squeue --noheader --array --format='%i|%T|%r' --jobs=" + ids + " 2>&1");
  if (answer.code != 0) {
    const std::string said = answer.text.substr(0, answer.text.find('\n'));
    if (said.find("Invalid job id") == std::string::npos)  // gone from the queue: finished
      entries.push_back({"?", "UNKNOWN (squeue: " + said + ")", ""});
    return entries;
  }
  std::istringstream lines(answer.text);
  std::string line;
  while (std::getline(lines, line)) {
    const std::size_t first = line.find('|'), second = line.rfind('|');
    if (first == std::string::npos || second == first) continue;
    entries.push_back({line.substr(0, first), line.substr(first + 1, second - first - 1),
                       line.substr(second + 1)});
  }
  return entries;
}

}  // namespace stoat::sim

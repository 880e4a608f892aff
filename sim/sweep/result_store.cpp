// SQLite behind a handful of prepared statements.
#include "sim/sweep/result_store.h"

#include <sqlite3.h>

#include <cstdio>
#include <filesystem>

#include "models/error.h"
#include "models/hash.h"
#include "models/streams.h"

namespace stoat::sim {
namespace {

constexpr int kVersion = 1;
constexpr int kApplicationId = 0x73746f61;  // "stoa"

}  // namespace

struct ResultStore::State {
  std::string path;
  sqlite3* db = nullptr;
  bool writable = false;
  sqlite3_stmt *find = nullptr, *put = nullptr, *drop = nullptr, *fail = nullptr, *unfail = nullptr;

  ~State() {
    for (sqlite3_stmt* each : {find, put, drop, fail, unfail}) sqlite3_finalize(each);
    sqlite3_close(db);
  }

  [[noreturn]] void fail_with(int status) const {
    const std::string reason = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(status);
    switch (status & 0xff) {
      case SQLITE_FULL:
        throw resource_error(Place{path}, "the disk is full (" + reason + ")",
                             "room for the results of the sweep",
                             "make room; stoat sweep resume continues");
      case SQLITE_READONLY:
      case SQLITE_CANTOPEN:
      case SQLITE_PERM:
        throw resource_error(Place{path}, "cannot be written (" + reason + ")",
                             "a folder that can be written", "choose another with -o DIR");
      case SQLITE_IOERR:
        throw resource_error(Place{path}, "cannot be read or written (" + reason + ")",
                             "a disk with room, not a network file system");
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        throw resource_error(Place{path}, "is in use by another program (" + reason + ")");
      case SQLITE_NOTADB:
      case SQLITE_CORRUPT:
        throw damaged_error(Place{path}, "this is no results database any more (" + reason + ")",
                            "the state of a sweep",
                            "stoat sweep resume moves it away and runs its points again");
      default:
        throw Bug(path + ": SQLite: " + reason);
    }
  }
  void check(int status) const {
    if (status != SQLITE_OK && status != SQLITE_DONE && status != SQLITE_ROW) fail_with(status);
  }
  void run(const char* sql) const { check(sqlite3_exec(db, sql, nullptr, nullptr, nullptr)); }
  sqlite3_stmt* prepare(const char* sql) const {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(db, sql, -1, &statement, nullptr));
    return statement;
  }
  int number(const char* sql) const {
    sqlite3_stmt* statement = prepare(sql);
    const int status = sqlite3_step(statement);
    const int value = status == SQLITE_ROW ? sqlite3_column_int(statement, 0) : 0;
    sqlite3_finalize(statement);
    check(status);
    return value;
  }

  void open(bool write) {
    writable = write;
    const int flags = write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    check(sqlite3_open_v2(path.c_str(), &db, flags, nullptr));
    sqlite3_busy_timeout(db, 30000);
    const int version = number("PRAGMA user_version");
    const int application = number("PRAGMA application_id");
    const bool fresh =
        version == 0 && application == 0 && number("SELECT count(*) FROM sqlite_master") == 0;
    if (!fresh && application != kApplicationId) {
      throw damaged_error(Place{path}, "a database of another program", "the state of a sweep");
    }
    if (!fresh && version != kVersion) {
      throw damaged_error(Place{path}, "results of version " + std::to_string(version),
                          "version " + std::to_string(kVersion),
                          "use the stoat that wrote them, or another -o DIR");
    }
    if (write) {
      run("PRAGMA journal_mode=WAL");
      run("PRAGMA synchronous=NORMAL");
      if (fresh) create();
      put = prepare("INSERT OR REPLACE INTO results(key, body, hash) VALUES(?1, ?2, ?3)");
      drop = prepare("DELETE FROM results WHERE key = ?1");
      fail = prepare("INSERT OR REPLACE INTO failures(key, attempts, reason) VALUES(?1, ?2, ?3)");
      unfail = prepare("DELETE FROM failures WHERE key = ?1");
    } else if (fresh) {
      throw damaged_error(Place{path}, "an empty database", "the state of a sweep");
    }
    find = prepare("SELECT body, hash FROM results WHERE key = ?1");
  }

  void create() const {
    run("BEGIN IMMEDIATE");
    run("CREATE TABLE IF NOT EXISTS results(key TEXT PRIMARY KEY, body TEXT NOT NULL, hash TEXT "
        "NOT NULL) WITHOUT ROWID");
    run("CREATE TABLE IF NOT EXISTS failures(key TEXT PRIMARY KEY, attempts INT NOT NULL, reason "
        "TEXT NOT NULL) WITHOUT ROWID");
    run(("PRAGMA application_id=" + std::to_string(kApplicationId)).c_str());
    run(("PRAGMA user_version=" + std::to_string(kVersion)).c_str());
    run("COMMIT");
  }

  void bind(sqlite3_stmt* statement, int at, const std::string& text) const {
    check(sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()),
                            SQLITE_STATIC));
  }
  void step(sqlite3_stmt* statement) const {
    const int status = sqlite3_step(statement);
    sqlite3_reset(statement);
    check(status);
  }
};

ResultStore::ResultStore(std::unique_ptr<State> state) : state_(std::move(state)) {}
ResultStore::~ResultStore() = default;
ResultStore::ResultStore(ResultStore&& other) noexcept = default;
ResultStore& ResultStore::operator=(ResultStore&& other) noexcept = default;

ResultStore::ResultStore(const std::string& path) : state_(std::make_unique<State>()) {
  state_->path = path;
  try {
    state_->open(true);
  } catch (const Error& error) {
    const int status = state_->db != nullptr ? sqlite3_errcode(state_->db) & 0xff : 0;
    if (status != SQLITE_NOTADB && status != SQLITE_CORRUPT) throw;
    state_ = std::make_unique<State>();
    state_->path = path;
    const std::string away = path + ".damaged";
    std::error_code failure;
    std::filesystem::rename(path, away, failure);
    if (failure) throw;
    for (const char* side : {"-wal", "-shm"}) std::remove((path + side).c_str());
    say("stoat: " + path + " is damaged; moved to " + away + ", its points are run again\n");
    state_->open(true);
  }
}

ResultStore ResultStore::read_only(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->open(false);
  return ResultStore(std::move(state));
}

std::unordered_set<std::string> ResultStore::keys() const {
  std::unordered_set<std::string> keys;
  sqlite3_stmt* statement = state_->prepare("SELECT key FROM results");
  int status = SQLITE_ROW;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW)
    keys.emplace(reinterpret_cast<const char*>(sqlite3_column_text(statement, 0)));
  sqlite3_finalize(statement);
  state_->check(status);
  return keys;
}

std::optional<std::string> ResultStore::find(const std::string& key) {
  State& s = *state_;
  s.bind(s.find, 1, key);
  const int status = sqlite3_step(s.find);
  std::optional<std::string> body;
  bool damaged = false;
  if (status == SQLITE_ROW) {
    const auto text = [&](int column) {
      const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(s.find, column));
      return std::string(data != nullptr ? data : "",
                         static_cast<std::size_t>(sqlite3_column_bytes(s.find, column)));
    };
    std::string found = text(0);
    damaged = hash_text(key + found) != text(1);
    if (!damaged) body = std::move(found);
  }
  sqlite3_reset(s.find);
  s.check(status);
  if (damaged) {
    say("stoat: " + s.path + ": the result of point " + key + " is damaged; it is run again\n");
    if (s.writable) {
      s.bind(s.drop, 1, key);
      s.step(s.drop);
    }
  }
  return body;
}

void ResultStore::put(const std::string& key, const std::string& body) {
  State& s = *state_;
  const std::string hash = hash_text(key + body);
  s.bind(s.put, 1, key);
  s.bind(s.put, 2, body);
  s.bind(s.put, 3, hash);
  s.step(s.put);
  s.bind(s.unfail, 1, key);
  s.step(s.unfail);
}

void ResultStore::put_failure(const StoredFailure& failure) {
  State& s = *state_;
  s.bind(s.fail, 1, failure.key);
  s.check(sqlite3_bind_int(s.fail, 2, static_cast<int>(failure.attempts)));
  s.bind(s.fail, 3, failure.reason);
  s.step(s.fail);
}

void ResultStore::forget_failures() { state_->run("DELETE FROM failures"); }

std::vector<StoredFailure> ResultStore::failures() const {
  std::vector<StoredFailure> failures;
  sqlite3_stmt* statement =
      state_->prepare("SELECT key, reason, attempts FROM failures ORDER BY key");
  int status = SQLITE_ROW;
  while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
    failures.push_back({reinterpret_cast<const char*>(sqlite3_column_text(statement, 0)),
                        reinterpret_cast<const char*>(sqlite3_column_text(statement, 1)),
                        static_cast<unsigned>(sqlite3_column_int(statement, 2))});
  }
  sqlite3_finalize(statement);
  state_->check(status);
  return failures;
}

void ResultStore::begin() { state_->run("BEGIN IMMEDIATE"); }
void ResultStore::commit() { state_->run("COMMIT"); }

}  // namespace stoat::sim

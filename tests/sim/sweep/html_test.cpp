// Escaping and numbers of the report page.
#include "sim/sweep/html.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "models/error.h"

namespace stoat::sim {
namespace {

TEST(EscapeHtml, LeavesNoMarkupAndNoQuotes) {
  EXPECT_EQ(escape_html("</script><b a=\"1\" b='2'>&"),
            "&lt;/script&gt;&lt;b a=&quot;1&quot; b=&#39;2&#39;&gt;&amp;");
}

TEST(EscapeHtml, KeepsUnicodeAndReplacesBrokenUtf8AndControls) {
  EXPECT_EQ(escape_html("µ 漢 😀"), "µ 漢 😀");
  EXPECT_EQ(escape_html("a\x80z"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(escape_html(std::string("a\x01z", 3)), "a\xEF\xBF\xBDz");
  EXPECT_EQ(escape_html("\xC0\xAF"), "\xEF\xBF\xBD\xEF\xBF\xBD");          // overlong '/'
  EXPECT_EQ(escape_html("\xED\xA0\x80").find("\xED"), std::string::npos);  // surrogate
  EXPECT_EQ(escape_html("\xE2\x82"), "\xEF\xBF\xBD\xEF\xBF\xBD");          // cut short
}

TEST(EscapeJsonForScript, KeepsTheValueAndCannotCloseTheElement) {
  const nlohmann::json value = {{"</script>", "<!-- & \u2028 \u2029 '\""}};
  const std::string text = escape_json_for_script(value.dump());
  EXPECT_EQ(text.find_first_of("<>&"), std::string::npos);
  EXPECT_EQ(text.find("\u2028"), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(text), value);
}

TEST(EscapeScriptSource, BreaksUpEndTagsInAnyCase) {
  EXPECT_EQ(escape_script_source("a = '</script>' + '</SCRIPT x'"),
            "a = '<\\/script>' + '<\\/SCRIPT x'");
  EXPECT_EQ(escape_script_source("'<!--'"), "'<\\!--'");
  EXPECT_EQ(escape_script_source("a</b/ && a<b"), "a</b/ && a<b");
  EXPECT_EQ(escape_script_source("a <"), "a <");
}

TEST(CsvDataUri, EncodesEverythingThatIsNotALetterOrDigit) {
  EXPECT_EQ(csv_data_uri("a,\"<\n"), "data:text/csv;charset=utf-8,a%2C%22%3C%0A");
}

TEST(CsvCell, QuotesOnlyWhatMustBeQuoted) {
  EXPECT_EQ(csv_cell("plain"), "plain");
  EXPECT_EQ(csv_cell("a,b"), "\"a,b\"");
  EXPECT_EQ(csv_cell("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(csv_cell(" edge"), "\" edge\"");
}

TEST(Significant, RoundsToDigitsAndGroupsThousands) {
  EXPECT_EQ(significant(3.14159, 3), "3.14");
  EXPECT_EQ(significant(999.96, 4), "1000");
  EXPECT_EQ(significant(0.012345, 2), "0.012");
  EXPECT_EQ(significant(123456, 4), "123\u202F500");
  EXPECT_EQ(significant(-12345678, 3), "\u221212\u202F300\u202F000");
  EXPECT_EQ(significant(0, 3), "0");
  EXPECT_EQ(significant(1.5e-7, 2), "1.5e-7");
  EXPECT_EQ(significant(2.5e12, 2), "2.5e12");
  EXPECT_EQ(significant(std::numeric_limits<double>::quiet_NaN()), "n/a");
}

TEST(ExactNumber, ReadsBackAsTheSameDouble) {
  for (const double value : {0.1, 1e-300, 123456789.123456789, -2.0}) {
    EXPECT_EQ(std::stod(exact_number(value)), value);
  }
  EXPECT_EQ(exact_number(std::numeric_limits<double>::infinity()), "");
}

TEST(Scales, TheLargestValueReadsBetweenOneAndAThousand) {
  EXPECT_EQ(energy_scale(3.5e-4).unit, "µJ");
  EXPECT_EQ(energy_scale(1e-3).unit, "mJ");
  EXPECT_EQ(time_scale(5e-5).unit, "µs");
  EXPECT_EQ(bytes_scale(1024).unit, "KiB");
  EXPECT_EQ(bytes_scale(1023).unit, "B");
}

TEST(HtmlTable, RefusesARowOfAnotherWidthAndEscapesCells) {
  HtmlTable table({{"a", ""}, {"b", "µJ", true}});
  EXPECT_THROW(table.add_row({"only one"}), Bug);
  table.add_row({"<x>", "1"}, "mac");
  const std::string html = table.html("c & d");
  EXPECT_NE(html.find("&lt;x&gt;"), std::string::npos);
  EXPECT_NE(html.find("c &amp; d"), std::string::npos);
  EXPECT_EQ(html.find("<x>"), std::string::npos);
}

}  // namespace
}  // namespace stoat::sim

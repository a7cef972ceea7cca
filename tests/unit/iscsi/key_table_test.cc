#include "common/iscsi/key_table.h"

#include <gtest/gtest.h>

#include <set>

#include "common/iscsi/limits.h"

namespace holdfast::iscsi {
namespace {

TEST(KeyTable, NamesAreUniqueAndRangesMakeSense) {
  std::set<std::string_view> names;
  for (const KeyInfo& info : key_table()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_EQ(find_key(info.name), &info);
    EXPECT_EQ(&key_info(info.key), &info);
    EXPECT_LE(info.name.size(), kMaxKeyBytes);
    EXPECT_LE(info.minimum, info.maximum) << info.name;
    EXPECT_FALSE(info.clause.empty()) << info.name;
    EXPECT_EQ(info.rule == Rule::refuse, !info.fixed_answer.empty()) << info.name;
    const bool boolean = info.rule == Rule::boolean_and || info.rule == Rule::boolean_or;
    EXPECT_TRUE(!boolean || info.type == ValueType::boolean) << info.name;
    EXPECT_TRUE(info.rule != Rule::first_common || info.type == ValueType::list) << info.name;
  }
  EXPECT_EQ(find_key("HeaderDigestX"), nullptr);
  EXPECT_EQ(find_key("headerdigest"), nullptr);
}

}  // namespace
}  // namespace holdfast::iscsi

#include "common/io/link_watch.h"

#include <gtest/gtest.h>

#include <functional>
#include <utility>

namespace holdfast::io {
namespace {

class Watch final : public LinkWatch {
 public:
  std::optional<Where> find(const Endpoint&) const override { return std::nullopt; }
  bool ready() const override { return true; }
  void say(const std::string& interface) { tell({.interface = interface}); }
};

struct Listener final : LinkListener {
  void on_link(const LinkEvent& event) noexcept override {
    heard.push_back(event.interface);
    if (then) then();
  }
  std::vector<std::string> heard;
  std::function<void()> then;
};

using Names = std::vector<std::string>;

TEST(LinkWatchTest, TellsEveryListenerUntilItIsRemoved) {
  Watch watch;
  Listener a, b;
  watch.add(a);
  watch.add(b);
  watch.say("san0");
  watch.remove(a);
  watch.say("san1");
  EXPECT_EQ(a.heard, Names({"san0"}));
  EXPECT_EQ(b.heard, Names({"san0", "san1"}));
  watch.remove(b);
}

TEST(LinkWatchTest, AListenerMayRemoveItselfAndOthersWhileItIsTold) {
  Watch watch;
  Listener a, b, c;
  for (Listener* listener : {&a, &b, &c}) watch.add(*listener);
  a.then = [&] {
    watch.remove(a);
    watch.remove(b);
  };
  watch.say("san0");
  watch.say("san1");
  EXPECT_EQ(a.heard, Names({"san0"}));
  EXPECT_TRUE(b.heard.empty());
  EXPECT_EQ(c.heard, Names({"san0", "san1"}));
  watch.remove(c);
}

TEST(LinkWatchTest, OneThatIsAddedMeanwhileHearsTheNextEvent) {
  Watch watch;
  Listener a, b;
  watch.add(a);
  bool added = false;
  a.then = [&] {
    if (!std::exchange(added, true)) watch.add(b);
  };
  watch.say("san0");
  watch.say("san1");
  EXPECT_EQ(b.heard, Names({"san1"}));
  watch.remove(a);
  watch.remove(b);
}

}  // namespace
}  // namespace holdfast::io

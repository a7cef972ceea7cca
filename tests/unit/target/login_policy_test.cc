// Who is let in, why not, and whether that still holds when the configuration changes meanwhile.

#include "target/login_policy.h"

#include <gtest/gtest.h>

#include "tests/unit/target/fake_loops.h"

namespace holdfast::target {
namespace {

using iscsi::LoginStatus;

constexpr const char* kStore = "iqn.2026-11.org.holdfast:store";
constexpr const char* kHost = "iqn.2026-11.org.holdfast:hv1";

io::Endpoint endpoint(const char* text) { return io::Endpoint::parse(text).value(); }

daemon::ChapConfig account(const char* user) {
  daemon::ChapConfig chap;
  chap.user = user;
  chap.secret = "a-secret-of-24-characters";
  return chap;
}

NodeMap make_map() {
  NodeMap map;
  map.portal_groups = {{.tag = 1, .portals = {endpoint("10.1.0.10:3260")}},
                       {.tag = 2, .portals = {endpoint("10.2.0.10:3260")}}};
  InitiatorConfig host;
  host.name = kHost;
  host.addresses = {io::AddressRange::parse("10.1.0.0/24").value()};
  map.targets = {
      {.name = kStore, .portal_groups = {1}, .luns = {}, .initiators = {std::move(host)}}};
  return map;
}

class LoginPolicyTest : public ::testing::Test {
 protected:
  LoginPolicy policy(const NodeMap& map) {
    return LoginPolicy(std::make_shared<NodeMap>(map), route_,
                       {.backoff = backoff_, .loop = loop_});
  }
  void expect_refused(const NodeMap& map, const char* initiator, const char* target,
                      LoginStatus status, const std::string& reason) {
    const iscsi::LoginDecision decision = policy(map).normal(initiator, target);
    EXPECT_EQ(decision.status, status) << reason;
    EXPECT_EQ(std::string(decision.reason), reason);
  }

  FakeWorld world_;
  FakeLoop loop_{world_};
  LoginBackoff backoff_;
  LoginPolicy::Route route_{.peer = endpoint("10.1.0.1:5000"),
                            .portal = endpoint("10.1.0.10:3260"),
                            .portal_group_tag = 1};
};

TEST_F(LoginPolicyTest, SaysWhyNot) {
  const NodeMap map = make_map();
  EXPECT_EQ(policy(map).normal(kHost, kStore).status, LoginStatus::success);
  expect_refused(map, kHost, "iqn.2026-11.org.holdfast:no", LoginStatus::not_found,
                 "there is no target of this name");
  expect_refused(map, "iqn.2026-11.org.holdfast:hv2", kStore, LoginStatus::authorization_failure,
                 "the initiator's name is not allowed");
  route_.peer = endpoint("10.9.0.1:5000");
  expect_refused(map, kHost, kStore, LoginStatus::authorization_failure,
                 "the initiator's address is not allowed");
  route_ = {.peer = endpoint("10.1.0.1:5000"),
            .portal = endpoint("10.2.0.10:3260"),
            .portal_group_tag = 2};
  expect_refused(map, kHost, kStore, LoginStatus::not_found,
                 "the target is not served through this portal group");
}

// A reload while the login goes on.
TEST_F(LoginPolicyTest, WhatWasDecidedIsLookedAtAgain) {
  LoginPolicy login = policy(make_map());
  ASSERT_EQ(login.normal(kHost, kStore).status, LoginStatus::success);
  EXPECT_FALSE(login.obstacle_now(make_map()).has_value());

  NodeMap now = make_map();
  now.portal_groups[0].portals = {endpoint("10.1.0.11:3260")};
  EXPECT_EQ(login.obstacle_now(now).value().status, LoginStatus::not_found);
  now = make_map();
  now.targets[0].initiators[0].addresses = {io::AddressRange::parse("10.1.0.2/32").value()};
  EXPECT_EQ(login.obstacle_now(now).value().status, LoginStatus::authorization_failure);
  now = make_map();
  now.targets.clear();
  EXPECT_EQ(login.obstacle_now(now).value().status, LoginStatus::not_found);
}

TEST_F(LoginPolicyTest, AuthenticationThatIsAddedMeanwhileIsNotSkipped) {
  LoginPolicy login = policy(make_map());
  ASSERT_FALSE(login.normal(kHost, kStore).chap.required());
  NodeMap now = make_map();
  now.targets[0].initiators[0].chap = account("hv1");
  EXPECT_EQ(login.obstacle_now(now).value().status, LoginStatus::service_unavailable);

  LoginPolicy proved = policy(now);
  ASSERT_TRUE(proved.normal(kHost, kStore).chap.required());
  EXPECT_FALSE(proved.obstacle_now(now).has_value());
  now.targets[0].initiators[0].chap->secret = "another-secret-of-that-size";
  EXPECT_TRUE(proved.obstacle_now(now).has_value());

  LoginPolicy asking = policy(make_map());
  ASSERT_FALSE(asking.discovery(kHost).chap.required());
  EXPECT_FALSE(asking.obstacle_now(make_map()).has_value());
  now = make_map();
  now.discovery.chap = account("hv1");
  EXPECT_TRUE(asking.obstacle_now(now).has_value());
}

// It would come to itself there.
TEST(TargetDirectoryTest, NoOtherHostIsToldOfALoopbackPortal) {
  NodeMap map = make_map();
  map.portal_groups[0].portals.push_back(endpoint("127.0.0.1:3260"));
  map.targets[0].initiators[0].addresses.clear();
  const auto told = [&map](const char* peer) {
    TargetDirectory directory([&map] { return std::make_shared<NodeMap>(map); }, kHost,
                              endpoint(peer));
    std::vector<uint8_t> text;
    iscsi::TextKeyWriter keys(text, 4096);
    iscsi::TargetListWriter writer(keys);
    EXPECT_TRUE(directory.list("", writer).has_value());
    return std::string(text.begin(), text.end());
  };
  EXPECT_NE(told("10.1.0.1:5000").find("10.1.0.10:3260"), std::string::npos);
  EXPECT_EQ(told("10.1.0.1:5000").find("127.0.0.1"), std::string::npos);
  EXPECT_NE(told("127.0.0.1:5000").find("127.0.0.1:3260"), std::string::npos);
}

}  // namespace
}  // namespace holdfast::target

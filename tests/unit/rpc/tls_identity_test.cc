#include "common/rpc/tls_identity.h"

#include <gmock/gmock.h>

#include "common/rpc/limits.h"
#include "tests/unit/rpc/certificates.h"

namespace holdfast::rpc {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

class TlsIdentityTest : public ::testing::Test {
 protected:
  // The error, which must be there.
  std::string problem(const TlsContext::Files& from, const NodeIdentity& expected = {"c1", "hv1"}) {
    const auto loaded = TlsContext::load(from, expected);
    EXPECT_FALSE(loaded.has_value());
    return loaded.has_value() ? "" : loaded.error();
  }
  TlsContext::Files written(const Wanted& wanted) { return files.write_all(ca, ca.issue(wanted)); }

  TestCa ca;
  TestFiles files;
};

TEST_F(TlsIdentityTest, LoadsWhatFitsTogether) {
  const auto loaded = TlsContext::load(written(node_of("c1", "hv1")), {"c1", "hv1"});
  ASSERT_TRUE(loaded.has_value()) << loaded.error();
  EXPECT_EQ((*loaded)->identity(), (NodeIdentity{"c1", "hv1"}));
  EXPECT_THAT((*loaded)->valid_until(), EndsWith("GMT"));
}

TEST_F(TlsIdentityTest, AChainFromAnAuthorityInBetween) {
  const auto between = ca.issue_ca("in between");
  Issued issued = between->issue(node_of("c1", "hv1"));
  EXPECT_THAT(problem(files.write_all(ca, issued)), HasSubstr("unable to get local issuer"));
  issued.certificate += between->pem();
  EXPECT_TRUE(TlsContext::load(files.write_all(ca, issued), {"c1", "hv1"}).has_value());
  // The authority in between may itself be the cluster's.
  EXPECT_TRUE(TlsContext::load(files.write_all(*between, issued), {"c1", "hv1"}).has_value());
}

TEST_F(TlsIdentityTest, TheCaFileMayHoldTwoWhileTheyChange) {
  TestCa old;
  TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("ca.pem", old.pem() + ca.pem());
  EXPECT_TRUE(TlsContext::load(all, {"c1", "hv1"}).has_value());
}

TEST_F(TlsIdentityTest, AFileThatIsNotThereIsNamed) {
  for (std::string TlsContext::Files::* member :
       {&TlsContext::Files::ca, &TlsContext::Files::certificate, &TlsContext::Files::key}) {
    TlsContext::Files all = written(node_of("c1", "hv1"));
    all.*member += ".gone";
    EXPECT_THAT(problem(all), HasSubstr(all.*member + ": No such file or directory"));
    all.*member = "/tmp";
    EXPECT_THAT(problem(all), HasSubstr("/tmp is not a regular file"));
  }
}

TEST_F(TlsIdentityTest, WhatIsNoPemIsNamed) {
  TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("ca.pem", "hello");
  EXPECT_THAT(problem(all), HasSubstr("ca.pem holds no certificate in PEM"));
  all = written(node_of("c1", "hv1"));
  const std::string good = ca.issue(node_of("c1", "hv1")).certificate;
  files.write("node.pem", good + good.substr(0, good.size() / 2));
  EXPECT_THAT(problem(all), HasSubstr("node.pem holds no certificate in PEM, or a broken one"));
  all = written(node_of("c1", "hv1"));
  files.write("node.key", "hello");
  EXPECT_THAT(problem(all), HasSubstr("node.key holds no private key in PEM"));
  files.write("node.key", std::string(kMaxPemFile + 1, 'x'));
  EXPECT_THAT(problem(all), HasSubstr("node.key is longer than 65536 bytes"));
}

TEST_F(TlsIdentityTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  const TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("node.key", TestCa::to_pem(TestCa::new_key().get(), "secret"));
  EXPECT_THAT(problem(all), HasSubstr("one with a passphrase cannot be used"));
}

TEST_F(TlsIdentityTest, AKeyThatOthersMayReadIsRefused) {
  TlsContext::Files all = written(node_of("c1", "hv1"));
  for (const mode_t mode : {0604u, 0620u, 0606u, 0601u}) {
    ASSERT_EQ(::chmod(all.key.c_str(), mode), 0);
    EXPECT_THAT(problem(all), HasSubstr("is open to other users")) << mode;
  }
  ASSERT_EQ(::chmod(all.key.c_str(), 0640), 0);
  EXPECT_TRUE(TlsContext::load(all, {"c1", "hv1"}).has_value());
}

TEST_F(TlsIdentityTest, AKeyOfAnotherCertificate) {
  const TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("node.key", ca.issue(node_of("c1", "hv1")).key);
  EXPECT_EQ(problem(all),
            "the key in " + all.key + " does not belong to the certificate in " + all.certificate);
}

TEST_F(TlsIdentityTest, ExpiredAndNotYetValid) {
  Wanted wanted = node_of("c1", "hv1");
  wanted.from_s = -2 * kHour;
  wanted.until_s = -kHour;
  EXPECT_THAT(problem(written(wanted)), HasSubstr("node.pem has expired: "));
  wanted.from_s = kHour;
  wanted.until_s = 2 * kHour;
  EXPECT_THAT(problem(written(wanted)), HasSubstr("is this host's clock right?"));
}

TEST_F(TlsIdentityTest, OfAnotherAuthority) {
  TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("ca.pem", TestCa("another").pem());
  EXPECT_THAT(problem(all), HasSubstr("is not one that the CA of " + all.ca + " vouches for"));
}

TEST_F(TlsIdentityTest, AnAuthorityThatIsNone) {
  const TlsContext::Files all = written(node_of("c1", "hv1"));
  files.write("ca.pem", ca.issue(node_of("c1", "hv1")).certificate);
  EXPECT_THAT(problem(all), HasSubstr("holds a certificate that is not a CA's"));
}

TEST_F(TlsIdentityTest, ACertificateForOneSideOnlyIsRefused) {
  for (const char* usage : {"serverAuth", "clientAuth"}) {
    Wanted wanted = node_of("c1", "hv1");
    wanted.extended_key_usage = usage;
    EXPECT_THAT(problem(written(wanted)), HasSubstr("vouches for: unsuit")) << usage;
  }
  Wanted without = node_of("c1", "hv1");
  without.extended_key_usage = nullptr;
  EXPECT_TRUE(TlsContext::load(written(without), {"c1", "hv1"}).has_value());
}

TEST_F(TlsIdentityTest, TheNameMustBeThisNodes) {
  EXPECT_THAT(problem(written(node_of("c1", "hv2"))),
              HasSubstr("is that of holdfast://c1/hv2, and this node is holdfast://c1/hv1"));
  EXPECT_THAT(problem(written(node_of("c2", "hv1"))), HasSubstr("is that of holdfast://c2/hv1"));
  const char* needs = "needs exactly one subjectAltName URI:holdfast://c1/hv1";
  for (const char* names : {"", "DNS:hv1", "URI:https://c1/hv1", "URI:holdfast://c1",
                            "URI:holdfast://c1/hv1,URI:holdfast://c1/hv2"}) {
    EXPECT_THAT(problem(written({.names = names})), HasSubstr(needs)) << names;
  }
  Wanted more = {.names = "DNS:hv1,IP:10.0.0.1,URI:https://x/,URI:holdfast://c1/hv1"};
  EXPECT_TRUE(TlsContext::load(written(more), {"c1", "hv1"}).has_value());
  EXPECT_THAT(problem(written(more), {"c1", "hv 1"}), HasSubstr("must be of letters"));
}

TEST_F(TlsIdentityTest, ReloadIsForLaterConnections) {
  TlsIdentity identity(make_context(ca, "hv1"));
  const std::shared_ptr<const TlsContext> before = identity.context();
  identity.replace(make_context(ca, "hv1"));
  EXPECT_NE(identity.context(), before);
  EXPECT_EQ(before.use_count(), 1);
}

TEST(NodeUri, NamesAndNothingElse) {
  EXPECT_EQ(parse_node_uri("holdfast://c1/hv1"), (NodeIdentity{"c1", "hv1"}));
  EXPECT_EQ(node_uri({"c1", "hv1"}), "holdfast://c1/hv1");
  const std::string longest(kMaxName, 'n');
  EXPECT_TRUE(parse_node_uri("holdfast://" + longest + "/a.b-c_D9").has_value());
  for (const std::string& wrong :
       {std::string(""), std::string("holdfast://"), std::string("holdfast:///n"),
        std::string("holdfast://c/"), std::string("holdfast://c/n/"),
        std::string("holdfast://c/n/m"), std::string("HOLDFAST://c/n"),
        std::string("holdfast://c/n "), std::string("holdfast://c@/n"),
        std::string("holdfast://c/n\0", 15), "holdfast://c/" + longest + "n",
        std::string("holdfast://c/n?x"), std::string("holdfast://c/\xc3\xa4")}) {
    EXPECT_FALSE(parse_node_uri(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace holdfast::rpc

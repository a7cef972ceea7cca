#include "common/rpc/tls_engine.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/base/random.h"
#include "common/rpc/limits.h"
#include "tests/unit/rpc/certificates.h"

namespace holdfast::rpc {
namespace {

using Side = TlsEngine::Side;

// OpenSSL's own end, with whatever lies a test wants: what other programs may send.
class RawEnd {
 public:
  // What it, as a server, finds wrong with our certificate.
  static inline int verify_error = X509_V_OK;

  RawEnd(bool client, int version, const TestCa* ca, const Wanted& wanted)
      : context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX_set_min_proto_version(context_.get(), version);
    SSL_CTX_set_max_proto_version(context_.get(), version);
    SSL_CTX_set_verify(context_.get(), client ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
                       [](int, X509_STORE_CTX* chain) {
                         X509_STORE_CTX_set_error(chain, verify_error);
                         return verify_error == X509_V_OK ? 1 : 0;
                       });
    if (ca != nullptr) use(ca->issue(wanted));
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    client ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
  }
  std::vector<uint8_t> exchange(base::Bytes input) {
    if (!input.empty()) BIO_write(SSL_get_rbio(ssl_.get()), input.data(), int(input.size()));
    ERR_clear_error();
    uint8_t byte = 0;
    SSL_is_init_finished(ssl_.get()) ? SSL_read(ssl_.get(), &byte, 1)
                                     : SSL_do_handshake(ssl_.get());
    std::vector<uint8_t> out(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())));
    if (!out.empty()) BIO_read(SSL_get_wbio(ssl_.get()), out.data(), int(out.size()));
    return out;
  }
  SSL* ssl() { return ssl_.get(); }

 private:
  void use(const Issued& issued) {
    const BioHandle certificate(
        BIO_new_mem_buf(issued.certificate.data(), int(issued.certificate.size())));
    const BioHandle key(BIO_new_mem_buf(issued.key.data(), int(issued.key.size())));
    const CertificateHandle x509(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
    const KeyHandle pkey(PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr));
    ASSERT_EQ(SSL_CTX_use_certificate(context_.get(), x509.get()), 1);
    ASSERT_EQ(SSL_CTX_use_PrivateKey(context_.get(), pkey.get()), 1);
  }
  SslContextHandle context_;
  SslHandle ssl_;
};

std::vector<uint8_t> take(TlsEngine& engine) { return std::exchange(engine.output(), {}); }

// All of it, in pieces of at most `piece`; false when the engine has failed.
bool give(TlsEngine& engine, base::Bytes bytes, std::vector<uint8_t>& plain,
          size_t piece = kReceiveBytes) {
  while (!bytes.empty()) {
    const size_t size = std::min(piece, bytes.size());
    if (!engine.receive(bytes.first(size), plain)) return false;
    bytes = bytes.subspan(size);
  }
  return true;
}

class TlsEngineTest : public ::testing::Test {
 protected:
  struct Pair {
    TlsEngine client;
    TlsEngine server;
    std::vector<uint8_t> client_plain, server_plain;
    size_t piece = kReceiveBytes;

    void run() {
      client.receive({}, client_plain);
      for (bool more = true; more;) {
        const std::vector<uint8_t> up = take(client);
        give(server, up, server_plain, piece);
        const std::vector<uint8_t> down = take(server);
        give(client, down, client_plain, piece);
        more = !up.empty() || !down.empty();
      }
    }
  };
  Pair pair(std::shared_ptr<const TlsContext> client, std::shared_ptr<const TlsContext> server,
            const std::string& wanted = "hv2") {
    return {.client = {std::move(client), Side::client, wanted},
            .server = {std::move(server), Side::server, ""},
            .client_plain = {},
            .server_plain = {}};
  }
  // Ours at one side, OpenSSL with that certificate at the other; what ours says of it.
  TlsFailure failure_of(Side ours, int version, const TestCa* theirs, const Wanted& wanted) {
    TlsEngine engine(make_context(ca, "hv1"), ours, ours == Side::client ? "hv2" : "");
    RawEnd raw(ours == Side::server, version, theirs, wanted);
    std::vector<uint8_t> plain;
    engine.receive({}, plain);
    for (int turn = 0; turn < 10; ++turn) {
      const std::vector<uint8_t> answer = raw.exchange(take(engine));
      if (!give(engine, answer, plain)) break;
    }
    if (engine.failure() == TlsFailure::none) {
      EXPECT_TRUE(engine.established());
    }
    EXPECT_TRUE(plain.empty());
    return engine.failure();
  }

  TestCa ca;
};

TEST_F(TlsEngineTest, BothSidesKnowEachOtherByNameAndTalk) {
  Pair both = pair(make_context(ca, "hv1"), make_context(ca, "hv2"));
  both.run();
  ASSERT_TRUE(both.client.established() && both.server.established());
  EXPECT_EQ(both.client.peer(), (NodeIdentity{"c1", "hv2"}));
  EXPECT_EQ(both.server.peer(), (NodeIdentity{"c1", "hv1"}));
  const std::vector<uint8_t> large(200'000, 7);
  ASSERT_TRUE(both.client.send(large));
  ASSERT_TRUE(both.server.send(base::as_bytes(std::string_view("hello"))));
  both.run();
  EXPECT_EQ(both.server_plain, large);
  EXPECT_EQ(base::as_text(both.client_plain), "hello");
  both.client.close();
  both.run();
  EXPECT_TRUE(both.server.peer_closed());
  EXPECT_FALSE(both.client.peer_closed());
}

TEST_F(TlsEngineTest, EveryPieceSizeWillDo) {
  const auto one = make_context(ca, "hv1");
  const auto two = make_context(ca, "hv2");
  for (const size_t piece : {1u, 2u, 3u, 5u, 7u, 100u, 1000u}) {
    Pair both = pair(one, two);
    both.piece = piece;
    both.run();
    ASSERT_TRUE(both.server.established());
    const std::vector<uint8_t> data(40'000, 9);
    ASSERT_TRUE(both.server.send(data));
    both.run();
    EXPECT_EQ(both.client_plain, data);
  }
}

TEST_F(TlsEngineTest, NoSessionIsOfferedForLater) {
  TlsEngine server(make_context(ca, "hv2"), Side::server, "");
  RawEnd raw(true, TLS1_3_VERSION, &ca, node_of("c1", "hv1"));
  std::vector<uint8_t> plain;
  for (int turn = 0; turn < 5; ++turn) give(server, raw.exchange(take(server)), plain);
  ASSERT_TRUE(server.established());
  EXPECT_EQ(SSL_SESSION_is_resumable(SSL_get0_session(raw.ssl())), 0);
  EXPECT_EQ(SSL_SESSION_get_max_early_data(SSL_get0_session(raw.ssl())), 0u);
}

TEST_F(TlsEngineTest, EachWrongCertificateHasItsReason) {
  const TestCa other("other CA");
  const TestCa twin;  // another key, the same name
  Wanted good = node_of("c1", "hv2");
  Wanted expired = good;
  expired.from_s = -2 * kHour;
  expired.until_s = -kHour;
  Wanted later = good;
  later.from_s = kHour;
  for (const Side side : {Side::client, Side::server}) {
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, good), TlsFailure::none);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, expired), TlsFailure::expired);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, later), TlsFailure::not_yet_valid);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &other, good), TlsFailure::other_ca);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &twin, good), TlsFailure::other_ca);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, node_of("c2", "hv2")),
              TlsFailure::wrong_cluster);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, {.names = "DNS:hv2"}),
              TlsFailure::no_node_name);
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca,
                         {.names = "URI:holdfast://c1/hv2,URI:holdfast://c2/hv2"}),
              TlsFailure::no_node_name);
    EXPECT_EQ(failure_of(side, TLS1_2_VERSION, &ca, good), TlsFailure::old_version);
  }
  Wanted one_sided = good;
  one_sided.extended_key_usage = "serverAuth";
  EXPECT_EQ(failure_of(Side::server, TLS1_3_VERSION, &ca, one_sided), TlsFailure::bad_certificate);
  EXPECT_EQ(failure_of(Side::client, TLS1_3_VERSION, &ca, node_of("c1", "hv3")),
            TlsFailure::wrong_node);
  EXPECT_EQ(failure_of(Side::server, TLS1_3_VERSION, &ca, node_of("c1", "hv3")), TlsFailure::none);
  EXPECT_EQ(failure_of(Side::server, TLS1_3_VERSION, nullptr, {}), TlsFailure::no_certificate);
}

TEST_F(TlsEngineTest, ACertificateThatIsTooLongIsNotTaken) {
  Wanted wanted = node_of("c1", "hv2");
  while (wanted.names.size() < 2 * kMaxCertificateChain) wanted.names += ",DNS:a.name.among.many";
  for (const Side side : {Side::client, Side::server}) {
    EXPECT_EQ(failure_of(side, TLS1_3_VERSION, &ca, wanted), TlsFailure::broken);
  }
}

TEST_F(TlsEngineTest, TheRefusedOneIsToldWhy) {
  const auto told = [&](int error) {
    RawEnd::verify_error = error;
    const TlsFailure failure = failure_of(Side::client, TLS1_3_VERSION, &ca, node_of("c1", "hv2"));
    RawEnd::verify_error = X509_V_OK;
    return failure;
  };
  EXPECT_EQ(told(X509_V_OK), TlsFailure::none);
  EXPECT_EQ(told(X509_V_ERR_CERT_HAS_EXPIRED), TlsFailure::refused_expired);
  EXPECT_EQ(told(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT), TlsFailure::refused_ca);
  EXPECT_EQ(told(X509_V_ERR_HOSTNAME_MISMATCH), TlsFailure::refused_name);
  EXPECT_EQ(told(X509_V_ERR_OUT_OF_MEM), TlsFailure::refused);
}

TEST_F(TlsEngineTest, ANodeOfAnotherClusterIsToldSoByBothEnds) {
  // The same CA for two clusters.
  Pair both = pair(make_context(ca, "hv1", "c2"), make_context(ca, "hv2", "c1"));
  both.run();
  EXPECT_EQ(both.client.failure(), TlsFailure::wrong_cluster);
  EXPECT_EQ(both.server.failure(), TlsFailure::refused_name);
  EXPECT_FALSE(both.server.established());
}

TEST_F(TlsEngineTest, WhatIsNotTlsIsRefused) {
  for (const std::string& text :
       {std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("HF\1") + std::string(17, '\0'), std::string(64, '\0'), std::string(64, '\xff'),
        std::string("SSH-2.0-OpenSSH_9.2\r\n")}) {
    TlsEngine server(make_context(ca, "hv2"), Side::server, "");
    std::vector<uint8_t> plain;
    EXPECT_FALSE(server.receive(base::as_bytes(text), plain));
    EXPECT_EQ(server.failure(), TlsFailure::not_tls) << text;
    EXPECT_TRUE(plain.empty());
    EXPECT_FALSE(server.receive(base::as_bytes(text), plain));
  }
}

TEST_F(TlsEngineTest, RandomBytesAndChangedBytesEndItWithoutHarm) {
  base::SeededRandom random(11);
  const auto one = make_context(ca, "hv1");
  const auto two = make_context(ca, "hv2");
  size_t failed = 0;
  for (int round = 0; round < 300; ++round) {
    Pair both = pair(one, two);
    std::vector<uint8_t> plain;
    both.client.receive({}, plain);
    std::vector<uint8_t> up = take(both.client);
    std::vector<uint8_t>* const changed = &up;
    (*changed)[random.below(changed->size())] ^= static_cast<uint8_t>(1 + random.below(255));
    give(both.server, up, both.server_plain);
    both.run();
    // Some bytes of a hello mean nothing; none may lead to data.
    EXPECT_TRUE(both.server_plain.empty());
    if (!both.server.established()) ++failed;
  }
  EXPECT_GT(failed, 200u);
}

TEST_F(TlsEngineTest, AChangedRecordEndsTheConnection) {
  Pair both = pair(make_context(ca, "hv1"), make_context(ca, "hv2"));
  both.run();
  ASSERT_TRUE(both.client.send(base::as_bytes(std::string_view("the truth"))));
  std::vector<uint8_t> up = take(both.client);
  up.back() ^= 1;
  EXPECT_FALSE(give(both.server, up, both.server_plain));
  EXPECT_EQ(both.server.failure(), TlsFailure::broken);
  EXPECT_TRUE(both.server_plain.empty());
}

TEST_F(TlsEngineTest, APeerThatMakesItAnswerWithoutReadingIsCutOff) {
  TlsEngine server(make_context(ca, "hv2"), Side::server, "");
  RawEnd raw(true, TLS1_3_VERSION, &ca, node_of("c1", "hv1"));
  std::vector<uint8_t> plain;
  for (int turn = 0; turn < 5; ++turn) give(server, raw.exchange(take(server)), plain);
  ASSERT_TRUE(server.established());
  // Key updates that ask for one in return; nobody takes the output.
  bool good = true;
  for (int round = 0; round < 100'000 && good; ++round) {
    ASSERT_EQ(SSL_key_update(raw.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
    good = give(server, raw.exchange({}), plain);
    ASSERT_LE(server.output().size(), kMaxTlsOutput);
  }
  EXPECT_FALSE(good);
  EXPECT_TRUE(server.failure() == TlsFailure::too_much_output ||
              server.failure() == TlsFailure::broken)
      << to_string(server.failure());
}

TEST_F(TlsEngineTest, EveryFailureHasItsOwnWords) {
  std::vector<std::string> all;
  for (int code = 1; code <= static_cast<int>(TlsFailure::refused); ++code) {
    all.emplace_back(to_string(static_cast<TlsFailure>(code)));
    EXPECT_GT(all.back().size(), 10u);
  }
  std::ranges::sort(all);
  EXPECT_EQ(std::ranges::adjacent_find(all), all.end());
}

}  // namespace
}  // namespace holdfast::rpc

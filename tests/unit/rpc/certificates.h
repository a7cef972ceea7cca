#pragma once
// A certification authority of a test's own, and files of it in a directory that ends with the
// test. Keys are Ed25519: made in microseconds, and all their signatures have one length, so that
// simulated runs with equal seeds are equal.

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "common/rpc/openssl_handles.h"
#include "common/rpc/tls_identity.h"

namespace holdfast::rpc {

inline constexpr long kHour = 3600;

struct Issued {
  std::string certificate;  // PEM
  std::string key;
};

struct Wanted {
  std::string names;  // subjectAltName, as openssl's configuration writes it; empty: none
  long from_s = -kHour;
  long until_s = 24 * kHour;
  const char* extended_key_usage = "serverAuth,clientAuth";
  bool ca = false;
};

inline Wanted node_of(const std::string& cluster, const std::string& node) {
  return {.names = "URI:" + node_uri({cluster, node})};
}

class TestCa {
 public:
  explicit TestCa(const char* name = "test CA") : key_(new_key()) {
    certificate_ = make(key_.get(), name, {.extended_key_usage = nullptr, .ca = true});
  }

  Issued issue(const Wanted& wanted, const char* common_name = "node") const {
    const KeyHandle key = new_key();
    return {to_pem(make(key.get(), common_name, wanted).get()), to_pem(key.get())};
  }
  // An authority that this one vouches for; its certificate is not this one's.
  std::unique_ptr<TestCa> issue_ca(const char* name) const {
    std::unique_ptr<TestCa> ca(new TestCa(name));
    ca->certificate_ = make(ca->key_.get(), name, {.extended_key_usage = nullptr, .ca = true});
    return ca;
  }
  std::string pem() const { return to_pem(certificate_.get()); }

  static std::string to_pem(X509* certificate) {
    const BioHandle out(BIO_new(BIO_s_mem()));
    EXPECT_EQ(PEM_write_bio_X509(out.get(), certificate), 1);
    return text(out.get());
  }
  static std::string to_pem(EVP_PKEY* key, const char* passphrase = nullptr) {
    const BioHandle out(BIO_new(BIO_s_mem()));
    EXPECT_EQ(PEM_write_bio_PKCS8PrivateKey(
                  out.get(), key, passphrase == nullptr ? nullptr : EVP_aes_128_cbc(), passphrase,
                  passphrase == nullptr ? 0 : static_cast<int>(std::string(passphrase).size()),
                  nullptr, nullptr),
              1);
    return text(out.get());
  }
  static KeyHandle new_key() { return KeyHandle(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")); }

 private:
  static std::string text(BIO* memory) {
    std::string out(BIO_ctrl_pending(memory), '\0');
    EXPECT_EQ(BIO_read(memory, out.data(), static_cast<int>(out.size())),
              static_cast<int>(out.size()));
    return out;
  }
  // Signed by this authority, or by the key itself while there is none.
  CertificateHandle make(EVP_PKEY* key, const char* common_name, const Wanted& wanted) const {
    CertificateHandle made(X509_new());
    X509* const x509 = made.get();
    X509_set_version(x509, 2);
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x509), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(x509), wanted.from_s);
    X509_gmtime_adj(X509_getm_notAfter(x509), wanted.until_s);
    X509_set_pubkey(x509, key);
    X509_NAME* const name = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);
    const X509* const issuer = certificate_ == nullptr ? x509 : certificate_.get();
    X509_set_issuer_name(x509, X509_get_subject_name(issuer));
    add(x509, NID_basic_constraints, wanted.ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (wanted.ca) add(x509, NID_key_usage, "critical,keyCertSign,cRLSign");
    add(x509, NID_subject_key_identifier, "hash");
    if (certificate_ != nullptr) {
      add(x509, NID_authority_key_identifier, "keyid", certificate_.get());
    }
    if (wanted.extended_key_usage != nullptr) {
      add(x509, NID_ext_key_usage, wanted.extended_key_usage);
    }
    if (!wanted.names.empty()) add(x509, NID_subject_alt_name, wanted.names.c_str());
    EXPECT_GT(X509_sign(x509, key_.get(), nullptr), 0);
    return made;
  }
  static void add(X509* x509, int nid, const char* value, X509* issuer = nullptr) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer == nullptr ? x509 : issuer, x509, nullptr, nullptr, 0);
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
    ASSERT_NE(extension, nullptr) << value;
    X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
  }

  KeyHandle key_;
  CertificateHandle certificate_;
  mutable uint64_t serial_ = 0;
};

class TestFiles {
 public:
  TestFiles() {
    char name[] = "/tmp/holdfast-rpc-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  TestFiles(const TestFiles&) = delete;
  TestFiles& operator=(const TestFiles&) = delete;
  ~TestFiles() { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    const std::string path = directory_ + "/" + name;
    std::ofstream(path, std::ios::trunc) << text;
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  TlsContext::Files write_all(const TestCa& ca, const Issued& issued) const {
    return {write("ca.pem", ca.pem()), write("node.pem", issued.certificate),
            write("node.key", issued.key)};
  }

 private:
  std::string directory_;
};

// The context of a node whose files are all right.
inline std::shared_ptr<const TlsContext> make_context(const TestCa& ca, const std::string& node,
                                                      const std::string& cluster = "c1") {
  const TestFiles files;
  auto loaded =
      TlsContext::load(files.write_all(ca, ca.issue(node_of(cluster, node))), {cluster, node});
  EXPECT_TRUE(loaded.has_value()) << loaded.error();
  return *loaded;
}

}  // namespace holdfast::rpc

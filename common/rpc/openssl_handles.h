#pragma once
// Owners of OpenSSL's objects.

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace holdfast::rpc {

template <auto kFree>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using BioHandle = std::unique_ptr<BIO, Freed<&BIO_free>>;
using CertificateHandle = std::unique_ptr<X509, Freed<&X509_free>>;
using KeyHandle = std::unique_ptr<EVP_PKEY, Freed<&EVP_PKEY_free>>;
using StoreHandle = std::unique_ptr<X509_STORE, Freed<&X509_STORE_free>>;
using StoreContextHandle = std::unique_ptr<X509_STORE_CTX, Freed<&X509_STORE_CTX_free>>;
using SslContextHandle = std::unique_ptr<SSL_CTX, Freed<&SSL_CTX_free>>;
using SslHandle = std::unique_ptr<SSL, Freed<&SSL_free>>;
using NamesHandle = std::unique_ptr<GENERAL_NAMES, Freed<&GENERAL_NAMES_free>>;

}  // namespace holdfast::rpc

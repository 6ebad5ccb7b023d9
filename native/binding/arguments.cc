#include "binding/arguments.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace switchyard {
namespace {

std::string describe(Napi::Value value) {
  switch (value.Type()) {
    case napi_undefined: return "undefined";
    case napi_null: return "null";
    case napi_boolean: return value.As<Napi::Boolean>() ? "true" : "false";
    case napi_number: {
      const double number = value.As<Napi::Number>();
      if (std::isnan(number)) return "NaN";
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", number);
      return text;
    }
    case napi_string: return std::string("'").append(value.As<Napi::String>().Utf8Value(), 0, 80) + "'";
    case napi_symbol: return "a symbol";
    case napi_function: return "a function";
    case napi_external: return "an external";
    case napi_bigint: return "a bigint";
    case napi_object: return value.IsArray() ? "an array" : "an object";
  }
  return "something else";
}

}  // namespace

void wrong_argument(Napi::Value got, const char* name, const std::string& expected) {
  throw Error(ErrorCode::kOption, std::string("[") + name + "] got " + describe(got) + ", expected " + expected);
}

void fail_disposed(const char* name) {
  fail(ErrorCode::kDisposed, "[%s] got a use after dispose(), expected a live %s", name, name);
}

void* unwrap(Napi::Value value, const napi_type_tag& tag, const char* name) {
  bool ours = false;
  void* data = nullptr;
  if (!value.IsObject() || napi_check_object_type_tag(value.Env(), value, &tag, &ours) != napi_ok || !ours ||
      napi_unwrap(value.Env(), value, &data) != napi_ok) {
    wrong_argument(value, name, std::string("a ") + name);
  }
  return data;
}

Napi::Object wrap(Napi::Env env, void* data, napi_finalize finalize, const napi_type_tag& tag) {
  const Napi::Object object = Napi::Object::New(env);
  if (napi_type_tag_object(env, object, &tag) != napi_ok ||
      napi_wrap(env, object, data, finalize, nullptr, nullptr) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return object;
}

int64_t integer(Napi::Value value, const char* name, int64_t min, int64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (std::trunc(number) == number && number >= static_cast<double>(min) && number <= static_cast<double>(max)) {
    return static_cast<int64_t>(number);
  }
  wrong_argument(value, name, "an integer from " + std::to_string(min) + " to " + std::to_string(max));
}

std::vector<int64_t> integers(Napi::Value value, const char* name) {
  if (!value.IsArray()) wrong_argument(value, name, "an array of integers");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<int64_t> list(array.Length());
  for (uint32_t i = 0; i < list.size(); i++) list[i] = integer(array.Get(i), name);
  return list;
}

std::string text(Napi::Value value, const char* name) {
  if (!value.IsString()) wrong_argument(value, name, "a string");
  return value.As<Napi::String>().Utf8Value();
}

bool boolean(Napi::Value value, const char* name) {
  if (!value.IsBoolean()) wrong_argument(value, name, "a boolean");
  return value.As<Napi::Boolean>();
}

Napi::Object object(Napi::Value value, const char* name) {
  if (!value.IsObject()) wrong_argument(value, name, "an object");
  return value.As<Napi::Object>();
}

Tier tier_option(Napi::Value value, const char* name) {
  if (value.IsUndefined()) return best_tier();
  const std::string spelled = text(value, name);
  const auto& present = present_tiers();
  Tier tier;
  if (!parse_tier(spelled, &tier)) wrong_argument(value, name, "the name of a tier");
  if (std::find(present.begin(), present.end(), tier) == present.end()) {
    throw Error(ErrorCode::kUnsupported, std::string("[") + name + "] got '" + spelled + "', expected one that this machine has",
                std::string("the best here is '") + tier_name(best_tier()) + "'");
  }
  return tier;
}

std::span<std::byte> bytes(Napi::Value value, const char* name) {
  void* data = nullptr;
  size_t length = 0;
  if (value.IsTypedArray()) {
    napi_typedarray_type type;
    if (napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::Error::New(value.Env());
    }
    length *= value.As<Napi::TypedArray>().ElementSize();
  } else if (value.IsDataView()) {
    if (napi_get_dataview_info(value.Env(), value, &length, &data, nullptr, nullptr) != napi_ok) {
      throw Napi::Error::New(value.Env());
    }
  } else {
    wrong_argument(value, name, "a typed array or DataView");
  }
  return {static_cast<std::byte*>(data), data == nullptr ? 0 : length};  // detached: no bytes
}

}  // namespace switchyard

{
  'targets': [
    {
      'target_name': 'switchyard',
      'sources': ['<!@(node scripts/native-sources.mjs)'],
      'include_dirs': ['native', '<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': [
        'NAPI_VERSION=9',
        'NAPI_CPP_EXCEPTIONS',
        'SWITCHYARD_VERSION="<!(node -p "require(\'./package.json\').version")"',
      ],
      # Contraction is off so that a fused multiply-add happens where a kernel writes one and nowhere else:
      # every instruction set and every build then gives the same bits.
      'cflags': ['-O3', '-fno-math-errno', '-ffp-contract=off', '-fvisibility=hidden', '-Wall', '-Wextra'],
      'cflags!': ['-fno-omit-frame-pointer', '-Wno-unused-parameter'],
      'cflags_cc': ['-std=c++20'],
      'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17', '-std=gnu++20', '-std=c++17'],
      'conditions': [
        ['OS=="linux"', {
          'libraries': ['-pthread', '-ldl'],
        }],
        ['OS=="mac"', {
          'xcode_settings': {
            'GCC_ENABLE_CPP_EXCEPTIONS': 'YES',
            'GCC_ENABLE_CPP_RTTI': 'YES',
            'GCC_SYMBOLS_PRIVATE_EXTERN': 'YES',
            'GCC_OPTIMIZATION_LEVEL': '3',
            'CLANG_CXX_LANGUAGE_STANDARD': 'c++20',
            'CLANG_CXX_LIBRARY': 'libc++',
            'MACOSX_DEPLOYMENT_TARGET': '12.0',
            'OTHER_CFLAGS': ['-fno-math-errno', '-ffp-contract=off'],
          },
        }],
        ['OS=="win"', {
          'defines': ['NOMINMAX', 'WIN32_LEAN_AND_MEAN', '_HAS_EXCEPTIONS=1'],
          'msvs_settings': {
            'VCCLCompilerTool': {
              'ExceptionHandling': 1,
              'RuntimeTypeInfo': 'true',
              'Optimization': 2,
              'AdditionalOptions': ['/std:c++20', '/fp:precise', '/utf-8', '/Zc:__cplusplus'],
            },
          },
        }],
      ],
    },
  ],
}

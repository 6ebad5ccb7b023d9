# The build settings that node-gyp expects beside Node's headers. Used only where no Node headers are installed and
# the addon is built against the node-api-headers package.
{
  'target_defaults': {
    'default_configuration': 'Release',
    'configurations': {
      'Debug': { 'defines': ['DEBUG'], 'cflags': ['-g', '-O0'] },
      'Release': { 'cflags': ['-O3'] },
    },
    'conditions': [
      ['OS in "linux freebsd openbsd solaris android"', {
        'cflags': ['-pthread', '-fPIC'],
        'ldflags': ['-pthread', '-rdynamic'],
      }],
      ['OS=="mac"', {
        'defines': ['_DARWIN_USE_64_BIT_INODE=1'],
        'conditions': [
          ['target_arch=="arm64"', { 'xcode_settings': { 'ARCHS': ['arm64'] } }],
          ['target_arch=="x64"', { 'xcode_settings': { 'ARCHS': ['x86_64'] } }],
        ],
      }],
      ['OS=="win"', {
        'defines': ['WIN32', '_CRT_SECURE_NO_DEPRECATE', '_CRT_NONSTDC_NO_DEPRECATE', 'BUILDING_NODE_EXTENSION'],
      }],
    ],
  },
}

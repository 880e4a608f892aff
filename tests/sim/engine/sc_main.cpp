// libsystemc wants an sc_main; gtest brings main and the tests call what they need.
#include <systemc>

int sc_main(int, char**) { return 0; }

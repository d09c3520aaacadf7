#!/bin/sh
# Fetches the clients that Gru's users have from npm, Maven Central and PyPI into the cache folder, once. Needs npm, mvn with
# Java 17, and python3 with pip. `deno task` downloads none of them.
set -eu
# Counted up with each change below.
edition=1
folder="${XDG_CACHE_HOME:-$HOME/.cache}/gru/clients-$edition"
[ -d "$folder" ] && exit 0

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Each version as a package of its own. 1.3 names two packages by addresses at GitHub: these are their like.
mkdir "$work/npm"
cat > "$work/npm/package.json" <<JSON
{
  "private": true,
  "dependencies": {
    "socket.io-client-1.3": "npm:socket.io-client@1.3.7",
    "socket.io-client-1.4": "npm:socket.io-client@1.4.8",
    "socket.io-client-1.5": "npm:socket.io-client@1.5.1",
    "socket.io-client-1.6": "npm:socket.io-client@1.6.0",
    "socket.io-client-1.7": "npm:socket.io-client@1.7.4",
    "socket.io-client-2": "npm:socket.io-client@2.5.0",
    "socket.io-client-3": "npm:socket.io-client@3.1.3",
    "socket.io-client-4": "npm:socket.io-client@4.8.4"
  },
  "overrides": { "xmlhttprequest": "npm:xmlhttprequest-ssl@1.5.1", "global": "npm:global@4.4.0" }
}
JSON
npm install --prefix "$work/npm" --silent --no-audit --no-fund --ignore-scripts

for client in com.github.nkzawa:socket.io-client:0.4.0 com.github.nkzawa:socket.io-client:0.6.0 \
  io.socket:socket.io-client:1.0.2 io.socket:socket.io-client:2.1.2; do
  version=${client##*:}
  rest=${client%:*}
  mkdir -p "$work/jvm"
  cat > "$work/jvm/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>gru</groupId><artifactId>clients</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>${rest%%:*}</groupId><artifactId>${rest##*:}</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
POM
  mvn --batch-mode --quiet --file "$work/jvm/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$work/jvm/$version"
done

python3 -m pip install --quiet --disable-pip-version-check --target "$work/python/4" \
  python-socketio==4.6.1 python-engineio==3.14.2 requests==2.34.2 websocket-client==1.9.2
python3 -m pip install --quiet --disable-pip-version-check --target "$work/python/5" \
  python-socketio==5.13.0 python-engineio==4.15.1 requests==2.34.2 websocket-client==1.9.2

# Renamed at the end, so that the folder is there only when it is whole.
mv "$work" "$folder"
trap - EXIT

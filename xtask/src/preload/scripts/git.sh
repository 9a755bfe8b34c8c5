export GIT_AUTHOR_DATE='2024-01-01T00:00:00Z' GIT_COMMITTER_DATE='2024-01-01T00:00:00Z'
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
git init -q -b main tree
cd tree
# The process that runs the hook is git itself.
cat > .git/hooks/pre-commit <<'END'
#!/bin/sh
[ -z "$LD_PRELOAD" ] || grep -qF "$LD_PRELOAD" "/proc/$PPID/maps"
END
chmod +x .git/hooks/pre-commit
text $((20000 * SCALE)) > ../file
split -a 4 -l 100 ../file part.
mkdir -p sub/folder
mv part.aaa* sub/folder
ls -R | wc -l
git add .
git commit -q -m first
for i in 1 2 3 4 5; do
    for name in part.aab[abc]; do echo "change $i" >> "$name"; done
    git commit -q -a -m "change $i"
done
git checkout -q -b side HEAD~3
echo side > sub/side
git add sub/side
git commit -q -m side
git checkout -q main
git merge -q -m merged side
git rev-parse HEAD
git gc -q --aggressive --prune=now
git fsck --full --strict 2> /dev/null
git count-objects -v | grep -E '^(count|in-pack|packs|garbage)'
git log --stat | digest
git log -p --all -M | digest
git grep -c word12 | digest
git diff HEAD~2 --stat | tail -1
git blame part.aaba | wc -l
cd ..
git clone -q "file://$PWD/tree" copy
git -C copy rev-parse HEAD
git -C copy status --porcelain | wc -l
git -C copy archive HEAD | tar -t | wc -l
git clone -q --depth 1 "file://$PWD/tree" shallow
git -C shallow log --oneline | wc -l

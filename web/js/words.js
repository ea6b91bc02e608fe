// The words of what these scripts draw, in the page's language.

import { app } from "../../../scripts/app.js";

const WORDS = {
    zh: {
        "{names} connected: drawn as last set": "{names} 已连接：按上次的设置绘制",
        "No state: a first clip. With one:": "无状态：首个片段。有状态时：",
        "Starts as the previous clip in reverse": "以上一片段的倒放开始",
        "Old noise in reverse, no replay": "旧噪声倒序，无重放",
        "Continues from the previous clip's last frame": "接上一片段的最后一帧",
        "Continues from the previous clip's last {m}": "接上一片段的最后 {m} 帧",
        "Old noise in order, no replay": "旧噪声顺序，无重放",
        "Reuses nothing": "不复用任何内容",
        "old frame": "旧帧", "noise": "噪声", "frame": "帧", "replayed": "重放", "in %": "（%）", "of {steps}": "共 {steps} 步",
        "old noise": "旧噪声", "new": "新噪声", "repeated": "重复", "sampled": "采样", "{count} frames": "{count} 帧",
        "The number of latents per clip is unknown: drawn for 8.": "每个片段的潜变量数未知：按 8 绘制。",
        "frame {j}: ": "帧 {j}：", "new noise": "新噪声", "noise of any old frame": "任一旧帧的噪声",
        "noise of old frame {source}": "旧帧 {source} 的噪声", ", {part} % of it new": "，其中 {part} % 为新", "under 1": "不到 1",
        "; no replay": "；不重放", "; replays that frame for all steps": "；在所有步骤重放该帧",
        "; replays that frame for the first {replayed} % of the steps": "；在前 {replayed} % 的步骤重放该帧",
        "; replays that frame for the first {replayed} of {steps} steps": "；在共 {steps} 步的前 {replayed} 步重放该帧",
        "; shown already": "；已显示过",
        "clip {k}: {how}": "片段 {k}：{how}",
        "kept from an earlier run": "保留自先前的运行", "waiting": "等待中", "in progress": "进行中", "done": "完成",
        "clip {k}": "片段 {k}", "clip {k}: its state was not saved": "片段 {k}：状态未保存", "seed {seed}": "种子 {seed}",
        "no picture": "无图片", "browse states": "浏览状态", "Saved states": "已保存的状态", "Close": "关闭",
        "Search prompts and names": "搜索提示词和文件名", "None of them.": "没有匹配项。",
        "No state was saved yet.": "尚未保存任何状态。",
        "The host does not tell which states there are: {error}": "服务器未能列出已保存的状态：{error}",
        "Edit clips...": "编辑片段…", "A table of all clips": "所有片段的表格", "Clips of {title}": "{title} 的片段",
        "1 clip": "1 个片段", "{count} clips": "{count} 个片段", "Close (Esc)": "关闭（Esc）",
        "Add a clip": "添加片段", "Add a clip at the end": "在末尾添加片段", "Run": "运行", "Run the workflow": "运行工作流",
        "Each change is in the node at once; Ctrl+Z outside of a text takes it back.":
            "每次更改立即写入节点；在文本框之外按 Ctrl+Z 可撤销。",
        "prompt": "提示词", "(connected)": "（已连接）", "prompt of clip {k}": "片段 {k} 的提示词", "{name} of clip {k}": "片段 {k} 的 {name}",
        "from the other node": "来自另一节点", "in the node": "见节点内", "as clip {k}: {text}": "同片段 {k}：{text}",
        "{names}: connected, so change it in the other node.": "{names}：已连接，请在另一节点中更改。",
        "A comment or a choice {a|b} is not closed in its line: edit these prompts in the node.":
            "有注释或 {a|b} 选项未在本行内闭合：请在节点中编辑这些提示词。",
        "control after generate is {control}: each run makes all clips again. Set it to fixed.":
            "生成后控制为 {control}：每次运行都会重新生成所有片段。请设为 fixed。",
        "A new seed: the next run makes this clip and the later ones again": "新种子：下次运行将重新生成此片段及其后的片段",
        "From here": "从此处",
        "Make again from here: a new seed for this clip, and run": "从此处重新生成：为此片段换新种子并运行",
        "Move up": "上移", "Move down": "下移", "Add a clip after this one": "在此片段后添加", "Remove this clip": "删除此片段",
        "The first clip needs a prompt.": "第一个片段需要提示词。",
        "This is only a comment: write a prompt.": "这里只有注释：请写提示词。",
        "Close the {sign}: until then the node has the text from before.": "请闭合 {sign}：在此之前，节点中保留原来的文本。",
        "{name} is {value}: expected a whole number from 0 to {most}.": "{name} 为 {value}：应为 0 到 {most} 的整数。",
        "{name} is {value}: expected a number from 0 to {most}.": "{name} 为 {value}：应为 0 到 {most} 的数。",
        "clips is {clips}, but there are {lines} prompts: the next change here sets it right.":
            "clips 为 {clips}，但有 {lines} 条提示词：在此处下次更改时会自动改正。",
        "There are {count} clips, but a run makes {most} at most.": "有 {count} 个片段，但一次运行最多生成 {most} 个。",
        "{name}_per_clip has {entries} entries for {count} clips: the next change here takes the rest out.":
            "{name}_per_clip 有 {entries} 项，但只有 {count} 个片段：在此处下次更改时会去掉多余的项。",
    },
    ja: {
        "{names} connected: drawn as last set": "{names} は接続済み：最後の設定で描画",
        "No state: a first clip. With one:": "状態なし：最初のクリップ。ある場合：",
        "Starts as the previous clip in reverse": "前のクリップの逆再生で始まる",
        "Old noise in reverse, no replay": "古いノイズを逆順に、再現なし",
        "Continues from the previous clip's last frame": "前のクリップの最後のフレームから続く",
        "Continues from the previous clip's last {m}": "前のクリップの最後の {m} フレームから続く",
        "Old noise in order, no replay": "古いノイズを順に、再現なし",
        "Reuses nothing": "何も再利用しない",
        "old frame": "元フレーム", "noise": "ノイズ", "frame": "フレーム", "replayed": "再現", "in %": "（%）", "of {steps}": "全 {steps}",
        "old noise": "古いノイズ", "new": "新しいノイズ", "repeated": "重複", "sampled": "サンプリング", "{count} frames": "{count} フレーム",
        "The number of latents per clip is unknown: drawn for 8.": "クリップの潜在変数の数が不明：8 として描画。",
        "frame {j}: ": "フレーム {j}：", "new noise": "新しいノイズ", "noise of any old frame": "任意の元フレームのノイズ",
        "noise of old frame {source}": "元フレーム {source} のノイズ", ", {part} % of it new": "（うち {part} % は新規）", "under 1": "1 未満の",
        "; no replay": "；再現なし", "; replays that frame for all steps": "；全ステップでそのフレームを再現",
        "; replays that frame for the first {replayed} % of the steps": "；最初の {replayed} % のステップでそのフレームを再現",
        "; replays that frame for the first {replayed} of {steps} steps": "；全 {steps} ステップ中、最初の {replayed} ステップでそのフレームを再現",
        "; shown already": "；表示済み",
        "clip {k}: {how}": "クリップ {k}：{how}",
        "kept from an earlier run": "以前の実行から保持", "waiting": "待機中", "in progress": "処理中", "done": "完了",
        "clip {k}": "クリップ {k}", "clip {k}: its state was not saved": "クリップ {k}：状態は未保存", "seed {seed}": "シード {seed}",
        "no picture": "画像なし", "browse states": "状態を一覧から選ぶ", "Saved states": "保存した状態", "Close": "閉じる",
        "Search prompts and names": "プロンプトとファイル名を検索", "None of them.": "該当なし。",
        "No state was saved yet.": "保存された状態はまだありません。",
        "The host does not tell which states there are: {error}": "サーバーから状態の一覧を取得できません：{error}",
        "Edit clips...": "クリップを編集…", "A table of all clips": "すべてのクリップの表", "Clips of {title}": "{title} のクリップ",
        "1 clip": "1 クリップ", "{count} clips": "{count} クリップ", "Close (Esc)": "閉じる（Esc）",
        "Add a clip": "クリップを追加", "Add a clip at the end": "末尾にクリップを追加", "Run": "実行", "Run the workflow": "ワークフローを実行",
        "Each change is in the node at once; Ctrl+Z outside of a text takes it back.":
            "変更はすぐにノードに反映されます。入力欄の外で Ctrl+Z を押すと元に戻ります。",
        "prompt": "プロンプト", "(connected)": "（接続済み）", "prompt of clip {k}": "クリップ {k} のプロンプト", "{name} of clip {k}": "クリップ {k} の {name}",
        "from the other node": "別のノードから", "in the node": "ノード内を参照", "as clip {k}: {text}": "クリップ {k} と同じ：{text}",
        "{names}: connected, so change it in the other node.": "{names}：接続済みのため、接続元のノードで変更してください。",
        "A comment or a choice {a|b} is not closed in its line: edit these prompts in the node.":
            "コメントまたは選択肢 {a|b} が同じ行で閉じられていません。プロンプトはノードで編集してください。",
        "control after generate is {control}: each run makes all clips again. Set it to fixed.":
            "生成後の制御が {control} です。実行のたびにすべてのクリップが作り直されます。fixed にしてください。",
        "A new seed: the next run makes this clip and the later ones again": "新しいシード：次の実行でこのクリップ以降を作り直します",
        "From here": "ここから",
        "Make again from here: a new seed for this clip, and run": "ここから作り直す：このクリップに新しいシードを付けて実行",
        "Move up": "上へ移動", "Move down": "下へ移動", "Add a clip after this one": "この後にクリップを追加", "Remove this clip": "このクリップを削除",
        "The first clip needs a prompt.": "最初のクリップにはプロンプトが必要です。",
        "This is only a comment: write a prompt.": "コメントだけです。プロンプトを書いてください。",
        "Close the {sign}: until then the node has the text from before.": "{sign} を閉じてください。それまでノードには前のテキストが残ります。",
        "{name} is {value}: expected a whole number from 0 to {most}.": "{name} が {value} です。0 から {most} までの整数にしてください。",
        "{name} is {value}: expected a number from 0 to {most}.": "{name} が {value} です。0 から {most} までの数にしてください。",
        "clips is {clips}, but there are {lines} prompts: the next change here sets it right.":
            "clips が {clips} ですが、プロンプトは {lines} 個あります。ここで次に変更すると直ります。",
        "There are {count} clips, but a run makes {most} at most.": "{count} クリップありますが、1 回の実行で作れるのは最大 {most} です。",
        "{name}_per_clip has {entries} entries for {count} clips: the next change here takes the rest out.":
            "{name}_per_clip に {entries} 項目ありますが、クリップは {count} です。ここで次に変更すると余分な項目が除かれます。",
    },
};

// The page's language, as "en" or "zh".
export function language() {
    try {
        return app.extensionManager?.setting?.get("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale");
    } catch {
        return "en"; // the page is not ready yet
    }
}

// An English text in the page's language, if it is known there; {name} is replaced by values.name.
export function words(text, values = {}) {
    const told = WORDS[language()]?.[text] ?? text;
    return told.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

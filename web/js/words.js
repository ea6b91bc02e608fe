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
